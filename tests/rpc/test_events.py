"""The event of a change is written in the change's own transaction, or neither is there."""

from typing import Any

from google.api.field_behavior_pb2 import INPUT_ONLY, field_behavior
from google.protobuf.descriptor import Descriptor as MessageDescriptor

from rigmesh.v1.auth_pb2 import ApiToken, Me
from rigmesh.v1.auth_service_pb2 import ListApiTokensResponse
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import AddMemberRequest, CreateProjectRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from rigmesh.v1.user_pb2 import User
from services.app import CONTROL_SERVICES
from services.rpc.auth import ANONYMOUS
from services.rpc.call import Call
from services.rpc.contract import rpcs
from tests.factory import events_of, rows
from tests.refusals import refused


async def test_change_and_event_are_of_one_transaction(rig: Any, lab: Any) -> None:
    request = CreateProjectRequest(project=Project(name="x"))
    call = lab.owner.stub(ProjectServiceStub).CreateProject(request, metadata=(("x-request-id", "the-request"),))
    project = await call
    (event,) = await events_of(rig, project.project_id)
    assert event["type"] == "project.created"
    assert event["actor"] == f"user:{lab.owner.user_id}"
    assert event["request_id"] == "the-request"
    assert str(event["project_id"]) == project.project_id
    assert (event["before"], event["after"]["name"]) == (None, "x")
    (same,) = await rows(
        rig,
        """SELECT p.xmin = m.xmin AND m.xmin = e.xmin AS one_transaction
        FROM projects p JOIN project_members m USING (project_id) JOIN events e USING (project_id)
        WHERE p.project_id = %s""",
        project.project_id,
    )
    assert same["one_transaction"]


async def test_a_refused_change_leaves_no_event(rig: Any, lab: Any) -> None:
    request = AddMemberRequest(project_id=lab.project_id, user_id=lab.viewer.user_id, role="OWNER")
    with refused("ALREADY_EXISTS", "ALREADY_EXISTS"):
        await lab.owner.stub(ProjectServiceStub).AddMember(request)
    events = [event for event in await events_of(rig, lab.viewer.user_id) if str(event["project_id"]) == lab.project_id]
    assert [event["after"]["role"] for event in events] == ["VIEWER"]


def secrets_in(message: MessageDescriptor) -> set[str]:
    return {field.name for field in message.fields if field.GetOptions().debug_redact}


def test_the_contract_marks_every_secret() -> None:
    """What only goes in, and what an answer shows once."""
    for service, _ in CONTROL_SERVICES:
        for rpc in rpcs(service):
            assert not rpc.access.returns_secret or secrets_in(rpc.response.DESCRIPTOR), rpc.method
            for message in (rpc.request.DESCRIPTOR, *(field.message_type for field in rpc.request.DESCRIPTOR.fields)):
                for field in message.fields if message else ():
                    if INPUT_ONLY in field.GetOptions().Extensions[field_behavior]:
                        assert field.name in secrets_in(message), field.full_name


def test_a_secret_reaches_no_event_at_any_depth() -> None:
    call = Call(ANONYMOUS, "id", "test.done", b"", None)  # type: ignore[arg-type]
    user = User(username="u", password="hidden")
    tokens = [ApiToken(name="t", token="hidden")]
    for message in (user, Me(user=user, csrf_token="hidden"), ListApiTokensResponse(api_tokens=tokens)):
        call.emit("test", "id", before=message, after=message)
    assert "hidden" not in str(call.events)
    assert [event.after for event in call.events] == [
        {"username": "u"},
        {"user": {"username": "u"}},
        {"api_tokens": [{"name": "t"}]},
    ]
    assert user.password == "hidden"
