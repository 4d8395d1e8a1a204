"""`Idempotency-Key`: one effect and one answer, whatever is repeated."""

import asyncio
from typing import Any

import grpc
import pytest
from uuid_utils import uuid7

from rigmesh.v1.auth_pb2 import ApiToken
from rigmesh.v1.auth_service_pb2 import CreateApiTokenRequest
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest, ListProjectsRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from tests.factory import events_of, rows
from tests.refusals import reason_of, refused


@pytest.fixture
def key() -> tuple[tuple[str, str]]:
    return (("idempotency-key", str(uuid7())),)


def wanted(name: str = "x") -> CreateProjectRequest:
    return CreateProjectRequest(project=Project(name=name))


async def count(rig: Any, name: str) -> int:
    return len(await rows(rig, "SELECT 1 FROM projects WHERE name = %s", name))


async def test_the_same_key_gets_the_same_answer(rig: Any, lab: Any, key: Any) -> None:
    stub = lab.owner.stub(ProjectServiceStub)
    first = await stub.CreateProject(wanted(), metadata=key)
    assert await stub.CreateProject(wanted(), metadata=key) == first
    assert len(await events_of(rig, first.project_id)) == 1


async def test_another_request_under_the_key_changes_nothing(rig: Any, lab: Any, key: Any) -> None:
    stub, other = lab.owner.stub(ProjectServiceStub), f"other {key[0][1]}"
    await stub.CreateProject(wanted(), metadata=key)
    with refused("FAILED_PRECONDITION", "IDEMPOTENCY_KEY_REUSED"):
        await stub.CreateProject(wanted(other), metadata=key)
    assert await count(rig, other) == 0


async def test_the_key_of_another_caller_is_another_key(lab: Any, key: Any) -> None:
    mine = await lab.owner.stub(ProjectServiceStub).CreateProject(wanted(), metadata=key)
    theirs = await lab.editor.stub(ProjectServiceStub).CreateProject(wanted(), metadata=key)
    assert mine.project_id != theirs.project_id


async def test_parallel_copies_have_one_effect(rig: Any, lab: Any, key: Any) -> None:
    stub, name = lab.owner.stub(ProjectServiceStub), f"parallel {key[0][1]}"
    copies = (stub.CreateProject(wanted(name), metadata=key) for _ in range(20))
    outcomes = await asyncio.gather(*copies, return_exceptions=True)
    assert {reason_of(outcome) for outcome in outcomes} <= {"", "IDEMPOTENCY_KEY_BUSY"}
    assert len({outcome.project_id for outcome in outcomes if isinstance(outcome, Project)}) == 1
    assert await count(rig, name) == 1


async def test_the_same_key_with_two_credentials_at_once_has_one_effect(
    rig: Any, lab: Any, session: Any, channel: grpc.aio.Channel
) -> None:
    by_token, by_cookie = lab.owner.stub(ProjectServiceStub), ProjectServiceStub(channel)
    cookie = session.headers(x_csrf_token=session.csrf_token)
    for _ in range(20):
        name = f"two credentials {uuid7()}"
        key = ("idempotency-key", name)
        outcomes = await asyncio.gather(
            by_token.CreateProject(wanted(name), metadata=(key,)),
            by_cookie.CreateProject(wanted(name), metadata=(*cookie, key)),
            return_exceptions=True,
        )
        assert {reason_of(outcome) for outcome in outcomes} <= {"", "IDEMPOTENCY_KEY_BUSY"}
        assert await count(rig, name) == 1


async def test_a_failed_call_does_not_use_the_key_up(lab: Any, key: Any) -> None:
    stub = lab.owner.stub(ProjectServiceStub)
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
        await stub.CreateProject(wanted(""), metadata=key)
    await stub.CreateProject(wanted(), metadata=key)


async def test_an_answer_with_a_secret_is_repeated_and_kept_encrypted(rig: Any, lab: Any, key: Any) -> None:
    stub = lab.owner.stub(AuthServiceStub)
    request = CreateApiTokenRequest(api_token=ApiToken(name="kept", scopes=["READ"]))
    first = await stub.CreateApiToken(request, metadata=key)
    assert (await stub.CreateApiToken(request, metadata=key)).token == first.token
    (row,) = await rows(rig, "SELECT response FROM idempotency_keys WHERE key = %s", key[0][1])
    assert first.token.encode() not in row["response"]
    assert b"kept" not in row["response"]


async def test_a_key_is_forgotten_after_two_days(rig: Any, lab: Any, key: Any) -> None:
    stub = lab.owner.stub(ProjectServiceStub)
    first = await stub.CreateProject(wanted(), metadata=key)
    await rows(
        rig,
        "UPDATE idempotency_keys SET created_at = now() - interval '48 hours 1 second' WHERE key = %s",
        key[0][1],
    )
    second = await stub.CreateProject(wanted("another"), metadata=key)
    assert second.project_id != first.project_id
    assert await stub.CreateProject(wanted("another"), metadata=key) == second


@pytest.mark.parametrize("bad", ["", "x" * 256])
async def test_a_key_must_be_printable_and_short(lab: Any, bad: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await lab.owner.stub(ProjectServiceStub).CreateProject(wanted(), metadata=(("idempotency-key", bad),))
    assert refusal.fields == ["Idempotency-Key"]


async def test_reads_take_no_notice_of_a_key(rig: Any, lab: Any, key: Any) -> None:
    await lab.owner.stub(ProjectServiceStub).ListProjects(ListProjectsRequest(), metadata=key)
    assert not await rows(rig, "SELECT 1 FROM idempotency_keys WHERE key = %s", key[0][1])
