import asyncio
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from rigmesh.v1.project_pb2 import Member
from rigmesh.v1.project_service_pb2 import (
    AddMemberRequest,
    GetProjectRequest,
    ListMembersRequest,
    RemoveMemberRequest,
    UpdateMemberRequest,
)
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from tests.factory import events_of, rows
from tests.refusals import reason_of, refused


@pytest.fixture
def owner(lab: Any) -> Any:
    return lab.owner.stub(ProjectServiceStub)


async def members_of(lab: Any) -> dict[str, int]:
    answer = await lab.viewer.stub(ProjectServiceStub).ListMembers(ListMembersRequest(project_id=lab.project_id))
    return {member.user_id: member.role for member in answer.members}


def update(lab: Any, caller: Any, role: str, **more: Any) -> UpdateMemberRequest:
    return UpdateMemberRequest(
        project_id=lab.project_id, user_id=caller.user_id, member=Member(role=Member.Role.Value(role)), **more
    )


async def test_members_come_in_the_order_in_which_they_joined(lab: Any, owner: Any) -> None:
    first_three = list(await members_of(lab))
    await owner.AddMember(AddMemberRequest(project_id=lab.project_id, user_id=lab.outsider.user_id, role="VIEWER"))
    seen, page_token = list[str](), ""
    while True:
        page = await owner.ListMembers(
            ListMembersRequest(project_id=lab.project_id, page_size=1, page_token=page_token)
        )
        seen += [member.user_id for member in page.members]
        page_token = page.next_page_token
        if not page_token:
            break
    assert seen == [*first_three, lab.outsider.user_id]


@pytest.mark.parametrize("name", ["user_id", "username", "email"])
async def test_a_user_is_added_by_id_name_or_address(rig: Any, lab: Any, owner: Any, name: str) -> None:
    user_id = lab.outsider.user_id
    (user,) = await rows(
        rig, "UPDATE users SET email = user_id || '@Example.org' WHERE user_id = %s RETURNING username", user_id
    )
    username = user["username"]
    value = {"user_id": user_id, "username": username.upper(), "email": f"{user_id}@example.ORG"}[name]
    member = await owner.AddMember(AddMemberRequest(project_id=lab.project_id, role="EDITOR", **{name: value}))
    assert (member.user_id, member.username, member.role) == (user_id, username, Member.EDITOR)
    seen = await lab.outsider.stub(ProjectServiceStub).GetProject(GetProjectRequest(project_id=lab.project_id))
    assert seen.role == Member.EDITOR


async def test_an_unknown_user_cannot_be_added(lab: Any, owner: Any) -> None:
    with refused("NOT_FOUND", "NOT_FOUND") as refusal:
        await owner.AddMember(AddMemberRequest(project_id=lab.project_id, username="nobody.at.all", role="VIEWER"))
    assert refusal.info.metadata == {"resource": "user", "id": "nobody.at.all"}


async def test_a_member_cannot_be_added_again(lab: Any, owner: Any) -> None:
    with refused("ALREADY_EXISTS", "ALREADY_EXISTS") as refusal:
        await owner.AddMember(AddMemberRequest(project_id=lab.project_id, user_id=lab.viewer.user_id, role="OWNER"))
    assert refusal.info.metadata == {"resource": "member", "field": "user_id"}


async def test_a_role_is_changed(lab: Any, owner: Any) -> None:
    member = await owner.UpdateMember(update(lab, lab.viewer, "EDITOR", update_mask=FieldMask(paths=["role"])))
    assert member.role == Member.EDITOR
    assert (await members_of(lab))[lab.viewer.user_id] == Member.EDITOR


@pytest.mark.parametrize(
    ("member", "mask", "field"),
    [
        (Member(), [], "update_mask"),
        (Member(role="OWNER"), ["username"], "update_mask"),
        (Member(), ["role"], "member.role"),
        (Member(role="OWNER", user_id="01920000-0000-7000-8000-000000000000"), [], "member.user_id"),
        (Member(role="OWNER", project_id="01920000-0000-7000-8000-000000000000"), [], "member.project_id"),
    ],
)
async def test_an_update_must_say_what_it_means(
    lab: Any, owner: Any, member: Member, mask: list[str], field: str
) -> None:
    request = update(lab, lab.viewer, "VIEWER", update_mask=FieldMask(paths=mask))
    request.member.CopyFrom(member)
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await owner.UpdateMember(request)
    assert refusal.fields == [field]


async def test_who_is_no_member_can_be_neither_changed_nor_removed(lab: Any, owner: Any) -> None:
    with refused("NOT_FOUND", "NOT_FOUND"):
        await owner.UpdateMember(update(lab, lab.outsider, "EDITOR"))
    with refused("NOT_FOUND", "NOT_FOUND"):
        await owner.RemoveMember(RemoveMemberRequest(project_id=lab.project_id, user_id=lab.outsider.user_id))


async def test_the_last_owner_stays(lab: Any, owner: Any) -> None:
    with refused("FAILED_PRECONDITION", "LAST_OWNER"):
        await owner.UpdateMember(update(lab, lab.owner, "VIEWER"))
    with refused("FAILED_PRECONDITION", "LAST_OWNER"):
        await owner.RemoveMember(RemoveMemberRequest(project_id=lab.project_id, user_id=lab.owner.user_id))
    await owner.UpdateMember(update(lab, lab.owner, "OWNER"))
    assert (await members_of(lab))[lab.owner.user_id] == Member.OWNER


async def test_owners_who_demote_each_other_at_once_leave_one(lab: Any, owner: Any) -> None:
    for _ in range(10):
        await owner.UpdateMember(update(lab, lab.editor, "OWNER"))
        other = lab.editor.stub(ProjectServiceStub)
        outcomes = await asyncio.gather(
            owner.UpdateMember(update(lab, lab.editor, "VIEWER")),
            other.UpdateMember(update(lab, lab.owner, "VIEWER")),
            return_exceptions=True,
        )
        reasons = [reason_of(outcome) for outcome in outcomes]
        assert reasons.count("") == 1
        assert set(reasons) <= {"", "LAST_OWNER", "ROLE_TOO_LOW"}
        assert list((await members_of(lab)).values()).count(Member.OWNER) == 1
        if reasons[1] == "":
            await other.UpdateMember(update(lab, lab.owner, "OWNER"))
            await owner.UpdateMember(update(lab, lab.editor, "VIEWER"))


async def test_a_removed_member_loses_the_project_at_once(lab: Any, owner: Any) -> None:
    await owner.RemoveMember(RemoveMemberRequest(project_id=lab.project_id, user_id=lab.editor.user_id))
    with refused("NOT_FOUND", "NOT_FOUND"):
        await lab.editor.stub(ProjectServiceStub).GetProject(GetProjectRequest(project_id=lab.project_id))


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_only_owners_manage_members(lab: Any, role: str) -> None:
    stub = getattr(lab, role).stub(ProjectServiceStub)
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await stub.AddMember(AddMemberRequest(project_id=lab.project_id, user_id=lab.outsider.user_id, role="VIEWER"))
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await stub.UpdateMember(update(lab, getattr(lab, role), "OWNER"))
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await stub.RemoveMember(RemoveMemberRequest(project_id=lab.project_id, user_id=lab.owner.user_id))


async def test_every_change_of_members_is_an_event_with_before_and_after(rig: Any, lab: Any, owner: Any) -> None:
    await owner.AddMember(AddMemberRequest(project_id=lab.project_id, user_id=lab.outsider.user_id, role="VIEWER"))
    await owner.UpdateMember(update(lab, lab.outsider, "EDITOR"))
    await owner.RemoveMember(RemoveMemberRequest(project_id=lab.project_id, user_id=lab.outsider.user_id))
    seen = [
        (event["type"], (event["before"] or {}).get("role"), (event["after"] or {}).get("role"), event["actor"])
        for event in await events_of(rig, lab.outsider.user_id)
        if str(event["project_id"]) == lab.project_id
    ]
    actor = f"user:{lab.owner.user_id}"
    assert seen == [
        ("project.member.added", None, "VIEWER", actor),
        ("project.member.updated", "VIEWER", "EDITOR", actor),
        ("project.member.removed", "EDITOR", None, actor),
    ]
