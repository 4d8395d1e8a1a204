"""The event of a change is written in the change's own transaction, or neither is there."""

from typing import Any

from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import AddMemberRequest, CreateProjectRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
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
