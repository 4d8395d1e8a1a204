"""Every pair of states of a capture session, from the table, and the states of its run."""

import asyncio
from itertools import product

import grpc
import psycopg
import pytest

from rigmesh.v1.capture_service_pb2 import (
    GetCaptureSessionRequest,
    StartCaptureSessionRequest,
    StopCaptureSessionRequest,
)
from rigmesh.v1.capture_service_pb2_grpc import CaptureServiceStub
from rigmesh.v1.capture_session_pb2 import CaptureSession
from services.captures.rules import CAPTURE_SESSION
from services.state_machine import Guard
from tests.factory import events_of, make_run, make_session, rows
from tests.refusals import reason_of, refused

STATES = sorted(set(CaptureSession.Status.keys()) - {"STATUS_UNSPECIFIED"})
TARGETS = [row.target for row in CAPTURE_SESSION.transitions]
LEGAL = [(source, row.target) for row in CAPTURE_SESSION.transitions for source in row.sources]
ILLEGAL = [pair for pair in product(STATES, TARGETS) if pair not in LEGAL]
EVENTS = {
    "RUNNING": "capture_session.started",
    "SUCCEEDED": "capture_session.stopped",
    "FAILED": "capture_session.stopped",
}


def move(caller, session, target):
    stub = caller.stub(CaptureServiceStub)
    ids = {"run_id": session.run_id, "capture_session_id": session.capture_session_id}
    if target == "RUNNING":
        return stub.StartCaptureSession(StartCaptureSessionRequest(**ids))
    return stub.StopCaptureSession(StopCaptureSessionRequest(**ids, outcome=target))


async def session_in(rig, lab, state):
    """A session in any state, also those that no RPC of this release leads to."""
    run = await make_run(lab, "RUNNING")
    session = await make_session(lab, run.run_id, start=state != "DRAFT")
    if state not in ("DRAFT", "RUNNING"):
        change = "UPDATE capture_sessions SET status = %s, ended_at = now() WHERE capture_session_id = %s"
        await rows(rig, change, state, session.capture_session_id)
    return await read(lab, session)


def read(lab, session):
    request = GetCaptureSessionRequest(run_id=session.run_id, capture_session_id=session.capture_session_id)
    return lab.viewer.stub(CaptureServiceStub).GetCaptureSession(request)


@pytest.mark.parametrize(("source", "target"), LEGAL)
async def test_legal(rig, lab, source, target):
    """The state changes, the table's timestamp is set, and one event tells before and after."""
    before = await session_in(rig, lab, source)
    after = await move(lab.editor, before, target)
    assert CaptureSession.Status.Name(after.status) == target
    for name in ("started_at", "ended_at"):
        expected = after.updated_at if CAPTURE_SESSION.to(target).sets == name else getattr(before, name)
        assert getattr(after, name) == expected
    event = (await events_of(rig, before.capture_session_id))[-1]
    assert (event["type"], event["before"]["status"], event["after"]["status"]) == (EVENTS[target], source, target)
    assert str(event["project_id"]) == lab.project_id
    assert await read(lab, before) == after


@pytest.mark.parametrize(("source", "target"), ILLEGAL)
async def test_illegal(rig, lab, source, target):
    """Refused with the ways out; nothing changes, nothing is told."""
    before = await session_in(rig, lab, source)
    told = await events_of(rig, before.capture_session_id)
    with refused("FAILED_PRECONDITION", "ILLEGAL_TRANSITION") as refusal:
        await move(lab.editor, before, target)
    allowed = ",".join(CAPTURE_SESSION.allowed(source))
    assert refusal.info.metadata == {"resource": "capture_session", "from": source, "to": target, "allowed": allowed}
    assert await read(lab, before) == before
    assert await events_of(rig, before.capture_session_id) == told


@pytest.mark.parametrize("state", ["DRAFT", "SUCCEEDED", "FAILED", "ARCHIVED"])
async def test_start_needs_a_running_run(rig, lab, state):
    """The guard of the table; a session created with start says the same."""
    assert CAPTURE_SESSION.to("RUNNING").guard is Guard.RUN_IS_RUNNING
    run = await make_run(lab)
    session = await make_session(lab, run.run_id, start=False)
    times = "started_at = now(), ended_at = now()" if state in ("SUCCEEDED", "FAILED") else "updated_at = now()"
    await rows(rig, f"UPDATE runs SET status = %s, {times} WHERE run_id = %s", state, run.run_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        await move(lab.editor, session, "RUNNING")
    assert refusal.info.metadata == {"resource": "run", "status": state, "allowed": "RUNNING"}
    assert await read(lab, session) == session
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        await make_session(lab, run.run_id)


async def test_stop_without_outcome_succeeds(lab):
    """SUCCEEDED is the default."""
    run = await make_run(lab, "RUNNING")
    session = await make_session(lab, run.run_id)
    request = StopCaptureSessionRequest(run_id=run.run_id, capture_session_id=session.capture_session_id)
    assert (await lab.editor.stub(CaptureServiceStub).StopCaptureSession(request)).status == CaptureSession.SUCCEEDED


@pytest.mark.parametrize("outcome", ["DRAFT", "RUNNING", "ARCHIVED"])
async def test_stop_with_another_outcome(lab, outcome):
    """Only the two ends are outcomes."""
    request = StopCaptureSessionRequest(
        run_id=(run := await make_run(lab, "RUNNING")).run_id,
        capture_session_id=(await make_session(lab, run.run_id)).capture_session_id,
        outcome=outcome,
    )
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await lab.editor.stub(CaptureServiceStub).StopCaptureSession(request)
    assert refusal.fields == ["outcome"]


async def test_session_of_another_run(lab):
    """The run and the session must belong together."""
    session = await make_session(lab, (await make_run(lab, "RUNNING")).run_id)
    session.run_id = (await make_run(lab, "RUNNING")).run_id
    for call in (lambda: read(lab, session), lambda: move(lab.editor, session, "SUCCEEDED")):
        with refused("NOT_FOUND", "NOT_FOUND") as refusal:
            await call()
        assert refusal.info.metadata["resource"] == "capture_session"


async def test_one_of_many_stops(rig, lab):
    """Ten at once: one wins, the others learn the state; ended_at is set once."""
    session = await make_session(lab, (await make_run(lab, "RUNNING")).run_id)
    calls = (move(lab.editor, session, "FAILED" if i % 2 else "SUCCEEDED") for i in range(10))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, CaptureSession) for result in results) == 1
    refusals = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert {reason_of(refusal) for refusal in refusals} == {"ILLEGAL_TRANSITION"}
    types = [event["type"] for event in await events_of(rig, session.capture_session_id)]
    assert types == ["capture_session.created", "capture_session.stopped"]


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ("DRAFT", "status = 'RUNNING'"),
        ("DRAFT", "ended_at = now()"),
        ("RUNNING", "status = 'SUCCEEDED'"),
        ("RUNNING", "started_at = NULL"),
        ("SUCCEEDED", "ended_at = NULL"),
        ("BACKFILLING", "ended_at = NULL"),
        ("RUNNING", "status = 'PAUSED'"),
    ],
)
async def test_database_refuses_what_the_code_forgot(rig, lab, state, change):
    """States without their timestamps, timestamps without their states, unknown states."""
    session = await session_in(rig, lab, state)
    with pytest.raises(psycopg.errors.CheckViolation):
        await rows(
            rig, f"UPDATE capture_sessions SET {change} WHERE capture_session_id = %s", session.capture_session_id
        )
