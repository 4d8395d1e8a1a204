from typing import Any

import pytest

from rigmesh.v1.project_pb2 import Member, Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest, GetProjectRequest, ListProjectsRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from tests.refusals import refused


async def create(caller: Any, **fields: Any) -> Project:
    request = CreateProjectRequest(project=Project(**{"name": "test"} | fields))
    project: Project = await caller.stub(ProjectServiceStub).CreateProject(request)
    return project


async def test_whoever_creates_a_project_owns_it(lab: Any) -> None:
    project = await create(lab.outsider, name="Prüfstand 7 — Kupplung", description="x" * 10_000)
    assert project.role == Member.OWNER
    seen = await lab.outsider.stub(ProjectServiceStub).GetProject(GetProjectRequest(project_id=project.project_id))
    assert seen == project


async def test_each_member_sees_its_own_role(lab: Any) -> None:
    request = GetProjectRequest(project_id=lab.project_id)
    for caller, role in ((lab.owner, Member.OWNER), (lab.editor, Member.EDITOR), (lab.viewer, Member.VIEWER)):
        assert (await caller.stub(ProjectServiceStub).GetProject(request)).role == role


async def test_an_outsider_cannot_tell_a_project_from_none(lab: Any) -> None:
    stub = lab.outsider.stub(ProjectServiceStub)
    with refused("NOT_FOUND", "NOT_FOUND") as foreign:
        await stub.GetProject(GetProjectRequest(project_id=lab.project_id))
    with refused("NOT_FOUND", "NOT_FOUND") as absent:
        await stub.GetProject(GetProjectRequest(project_id="01920000-0000-7000-8000-000000000000"))
    assert foreign.text == absent.text


async def test_the_list_holds_the_callers_projects_newest_first(lab: Any) -> None:
    made = [(await create(lab.outsider, name=f"project {i}")).project_id for i in range(7)]
    stub, seen, page_token = lab.outsider.stub(ProjectServiceStub), list[str](), ""
    while True:
        page = await stub.ListProjects(ListProjectsRequest(page_size=3, page_token=page_token))
        seen += [project.project_id for project in page.projects]
        page_token = page.next_page_token
        if not page_token:
            break
        # Newer than the page before: it must not move the pages after.
        await create(lab.outsider, name="meanwhile")
    assert [project_id for project_id in seen if project_id in made] == made[::-1]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "project.name"),
        ({"name": "x" * 201}, "project.name"),
        ({"name": "tab\tin it"}, "project.name"),
        ({"description": "x" * 10_001}, "project.description"),
        ({"description": "a\0b"}, "project.description"),
    ],
)
async def test_a_project_that_breaks_a_rule_is_refused(lab: Any, fields: dict[str, str], field: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await create(lab.owner, **fields)
    assert refusal.fields == [field]
