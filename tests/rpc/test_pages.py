"""Page tokens belong to one request of one installation."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigmesh.v1.auth_service_pb2 import ListApiTokensRequest
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest, ListMembersRequest, ListProjectsRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from services.db.page import MAX_BYTES, open_page
from services.errors import InvalidArgument
from tests.refusals import refused

KEY = b"k" * 32


def token_of(request: Any, last: Any = "an id", key: bytes = KEY) -> str:
    """The next_page_token that a page of one row ends with."""
    request.page_size = 1
    rows = [Project(project_id="1"), Project(project_id="2")]
    return open_page(request, key).cut(rows, lambda row: last)[1]


@given(st.one_of(st.text(), st.lists(st.text(), max_size=3), st.integers(-(2**63), 2**63)))
def test_a_token_gives_the_last_key_back(last: Any) -> None:
    token = token_of(ListProjectsRequest(), last)
    assert open_page(ListProjectsRequest(page_token=token, page_size=7), KEY).after == last


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(token_of(ListApiTokensRequest()), id="another method, same bytes"),
        pytest.param(token_of(ListMembersRequest(project_id="p")), id="another method"),
        pytest.param(token_of(ListProjectsRequest(), key=b"x" * 32), id="another installation"),
        pytest.param("AAAA", id="too short"),
        pytest.param("not base64!", id="no token"),
        pytest.param("é", id="not ASCII"),
        pytest.param(base64.urlsafe_b64encode(b"\0" * 16 + b'"an id"').decode(), id="forged"),
    ],
)
def test_a_foreign_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="was not given out for this request"):
        open_page(ListProjectsRequest(page_token=token), KEY)


def test_a_token_is_bound_to_the_filters_and_not_to_the_size() -> None:
    token = token_of(ListMembersRequest(project_id="p"))
    open_page(ListMembersRequest(project_id="p", page_token=token, page_size=9), KEY)
    with pytest.raises(InvalidArgument):
        open_page(ListMembersRequest(project_id="q", page_token=token), KEY)


def test_a_page_ends_early_when_it_gets_heavy() -> None:
    rows = [Project(project_id=str(i), description="x" * (MAX_BYTES // 3)) for i in range(5)]
    held, token = open_page(ListProjectsRequest(), KEY).cut(rows, lambda row: row.project_id)
    assert [row.project_id for row in held] == ["0", "1"]
    assert open_page(ListProjectsRequest(page_token=token), KEY).after == "1"


@pytest.mark.parametrize(("size", "rows"), [(0, 50), (1, 1), (1000, 1000), (2**31 - 1, 1000)])
def test_sizes_have_a_default_and_a_limit(size: int, rows: int) -> None:
    assert open_page(ListProjectsRequest(page_size=size), KEY).size == rows


async def test_the_servers_own_tokens_and_sizes(lab: Any) -> None:
    stub = lab.outsider.stub(ProjectServiceStub)
    for _ in range(2):
        await stub.CreateProject(CreateProjectRequest(project=Project(name="x")))
    first = await stub.ListProjects(ListProjectsRequest(page_size=1))
    second = await stub.ListProjects(ListProjectsRequest(page_size=1, page_token=first.next_page_token))
    assert first.projects[0].project_id > second.projects[0].project_id
    with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN"):
        await stub.ListProjects(ListProjectsRequest(page_token=first.next_page_token[:-1]))
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await stub.ListProjects(ListProjectsRequest(page_size=-1))
    assert refusal.fields == ["page_size"]
