"""What a known caller may do."""

from typing import Any

import grpc
import pytest

from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import AddMemberRequest, CreateProjectRequest, GetProjectRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from tests.factory import rows
from tests.refusals import refused

CREATE = CreateProjectRequest(project=Project(name="x"))
ABSENT = "01920000-0000-7000-8000-000000000000"


async def denied(rig: Any, request_id: str) -> list[dict[str, Any]]:
    return await rows(
        rig, "SELECT actor, method, reason, resource_id FROM denied_attempts WHERE request_id = %s", request_id
    )


async def test_a_browser_must_send_the_csrf_token(channel: grpc.aio.Channel, session: Any) -> None:
    stub = ProjectServiceStub(channel)
    await stub.CreateProject(CREATE, metadata=session.headers(x_csrf_token=session.csrf_token))
    await stub.CreateProject(
        CREATE, metadata=session.headers(x_csrf_token=session.csrf_token, sec_fetch_site="same-origin")
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_csrf_token": ""},
        {"x_csrf_token": "0" * 64},
        {"x_csrf_token": "right", "sec_fetch_site": "cross-site"},
        {"x_csrf_token": "right", "sec_fetch_site": "same-site"},
    ],
)
async def test_a_foreign_page_cannot_change_anything(
    rig: Any, lab: Any, channel: grpc.aio.Channel, session: Any, headers: dict[str, str]
) -> None:
    if headers.get("x_csrf_token") == "right":
        headers = headers | {"x_csrf_token": session.csrf_token}
    call = ProjectServiceStub(channel).CreateProject(CREATE, metadata=session.headers(**headers))
    with refused("PERMISSION_DENIED", "CSRF_TOKEN_INVALID"):
        await call
    attempt = await denied(rig, dict(await call.trailing_metadata())["x-request-id"])
    assert [row["reason"] for row in attempt] == ["CSRF_TOKEN_INVALID"]


async def test_reading_needs_no_csrf_token(lab: Any, channel: grpc.aio.Channel, session: Any) -> None:
    await ProjectServiceStub(channel).GetProject(
        GetProjectRequest(project_id=lab.project_id), metadata=session.headers(sec_fetch_site="cross-site")
    )


@pytest.mark.parametrize(
    ("caller", "code", "reason"),
    [("viewer", "PERMISSION_DENIED", "ROLE_TOO_LOW"), ("outsider", "NOT_FOUND", "NOT_FOUND")],
)
async def test_what_rights_refuse_is_recorded(rig: Any, lab: Any, caller: str, code: str, reason: str) -> None:
    request = AddMemberRequest(project_id=lab.project_id, user_id=lab.outsider.user_id, role="OWNER")
    call = getattr(lab, caller).stub(ProjectServiceStub).AddMember(request)
    with refused(code, reason):
        await call
    assert await denied(rig, dict(await call.trailing_metadata())["x-request-id"]) == [
        {
            "actor": f"user:{getattr(lab, caller).user_id}",
            "method": "rigmesh.v1.ProjectService/AddMember",
            "reason": reason,
            "resource_id": lab.project_id,
        }
    ]


async def test_the_role_that_is_needed_is_named(lab: Any) -> None:
    request = AddMemberRequest(project_id=lab.project_id, user_id=lab.outsider.user_id, role="OWNER")
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW") as refusal:
        await lab.editor.stub(ProjectServiceStub).AddMember(request)
    assert refusal.info.metadata == {"required_role": "OWNER"}


async def test_foreign_and_absent_look_the_same_to_writers_too(lab: Any) -> None:
    stub = lab.outsider.stub(ProjectServiceStub)
    with refused("NOT_FOUND", "NOT_FOUND") as foreign:
        await stub.AddMember(AddMemberRequest(project_id=lab.project_id, username="x", role="VIEWER"))
    with refused("NOT_FOUND", "NOT_FOUND") as absent:
        await stub.AddMember(AddMemberRequest(project_id=ABSENT, username="x", role="VIEWER"))
    assert foreign.text == absent.text
    assert foreign.info.metadata["resource"] == absent.info.metadata["resource"]
