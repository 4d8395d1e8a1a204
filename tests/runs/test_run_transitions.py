"""Every pair of states of a run, from the table."""

import asyncio
from itertools import product

import grpc
import psycopg
import pytest

from rigmesh.v1.run_pb2 import Run
from rigmesh.v1.run_service_pb2 import GetRunRequest, UpdateRunRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from services.runs.rules import RUN
from tests.factory import WAY, events_of, make_run, make_session, rows
from tests.refusals import reason_of, refused

STATES = tuple(WAY)
LEGAL = [(source, row.target) for row in RUN.transitions for source in row.sources]
ILLEGAL = [pair for pair in product(STATES, STATES) if pair not in LEGAL and pair[0] != pair[1]]


def move(caller, run, status):
    request = UpdateRunRequest(run_id=run.run_id, run=Run(status=status))
    return caller.stub(RunServiceStub).UpdateRun(request)


@pytest.mark.parametrize(("source", "target"), LEGAL)
async def test_legal(rig, lab, source, target):
    """The state changes, the table's timestamp is set, and one event tells before and after."""
    before = await make_run(lab, source)
    after = await move(lab.editor, before, target)
    row = RUN.to(target)
    assert Run.Status.Name(after.status) == target
    for name in ("started_at", "ended_at"):
        expected = after.updated_at if row.sets == name else getattr(before, name)
        assert getattr(after, name) == expected
    event = (await events_of(rig, before.run_id))[-1]
    assert (event["type"], event["before"]["status"], event["after"]["status"]) == (row.event, source, target)
    assert await lab.viewer.stub(RunServiceStub).GetRun(GetRunRequest(run_id=before.run_id)) == after


@pytest.mark.parametrize(("source", "target"), ILLEGAL)
async def test_illegal(rig, lab, source, target):
    """Refused with the ways out; nothing changes, nothing is told."""
    before = await make_run(lab, source)
    told = await events_of(rig, before.run_id)
    with refused("FAILED_PRECONDITION", "ILLEGAL_TRANSITION") as refusal:
        await move(lab.editor, before, target)
    allowed = ",".join(RUN.allowed(source))
    assert refusal.info.metadata == {"resource": "run", "from": source, "to": target, "allowed": allowed}
    assert await lab.viewer.stub(RunServiceStub).GetRun(GetRunRequest(run_id=before.run_id)) == before
    assert await events_of(rig, before.run_id) == told


@pytest.mark.parametrize("state", STATES)
async def test_present_state_changes_nothing(rig, lab, state):
    """Not even updated_at; the event is a plain update."""
    before = await make_run(lab, state)
    assert await move(lab.editor, before, state) == before
    event = (await events_of(rig, before.run_id))[-1]
    assert event["type"] == "run.updated"
    assert event["before"] == event["after"]


@pytest.mark.parametrize("outcome", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("active", ["DRAFT", "RUNNING", "BACKFILLING"])
async def test_active_sessions_keep_a_run_from_ending(rig, lab, outcome, active):
    """They are named; once they are over the run ends."""
    run = await make_run(lab, "RUNNING")
    await make_session(lab, run.run_id)
    session = await make_session(lab, run.run_id, start=active != "DRAFT")
    over = "status = 'SUCCEEDED', started_at = now(), ended_at = now()"
    await rows(rig, f"UPDATE capture_sessions SET {over} WHERE ordinal_number = 1 AND run_id = %s", run.run_id)
    if active == "BACKFILLING":
        state = "status = 'BACKFILLING', ended_at = now()"
        await rows(rig, f"UPDATE capture_sessions SET {state} WHERE ordinal_number = 2 AND run_id = %s", run.run_id)
    with refused("FAILED_PRECONDITION", "ACTIVE_CAPTURE_SESSIONS") as refusal:
        await move(lab.editor, run, outcome)
    assert refusal.info.metadata == {"capture_session_ids": session.capture_session_id}
    await rows(rig, f"UPDATE capture_sessions SET {over} WHERE run_id = %s", run.run_id)
    assert Run.Status.Name((await move(lab.editor, run, outcome)).status) == outcome


async def test_an_error_names_the_first_sessions_only(lab):
    """So that the error fits into its header."""
    run = await make_run(lab, "RUNNING")
    ids = [(await make_session(lab, run.run_id)).capture_session_id for _ in range(21)]
    with refused("FAILED_PRECONDITION", "ACTIVE_CAPTURE_SESSIONS") as refusal:
        await move(lab.editor, run, "FAILED")
    assert refusal.info.metadata["capture_session_ids"] == ",".join(ids[:20])


async def test_end_against_new_session(lab):
    """However they race: either the run ends, or the session runs; never both, and never neither."""
    outcomes = set()
    for attempt in range(30):
        run = await make_run(lab, "RUNNING")
        calls = [lambda run=run: move(lab.editor, run, "SUCCEEDED"), lambda run=run: make_session(lab, run.run_id)]
        order = (0, 1) if attempt % 2 else (1, 0)
        results = await asyncio.gather(*(calls[which]() for which in order), return_exceptions=True)
        end, start = (results[order.index(which)] for which in (0, 1))
        outcomes.add((reason_of(end), reason_of(start)))
    assert outcomes <= {("", "WRONG_STATE"), ("ACTIVE_CAPTURE_SESSIONS", "")}


async def test_one_of_many_starts(rig, lab):
    """Ten at once: the run starts once, and all are answered with the same run."""
    run = await make_run(lab)
    answers = await asyncio.gather(*(move(lab.editor, run, "RUNNING") for _ in range(10)))
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    types = [event["type"] for event in await events_of(rig, run.run_id)]
    assert types.count("run.started") == 1


async def test_one_of_two_ends(lab):
    """Two outcomes at once: one is refused, and ended_at is not before started_at."""
    run = await make_run(lab, "RUNNING")
    results = await asyncio.gather(
        move(lab.editor, run, "SUCCEEDED"), move(lab.editor, run, "FAILED"), return_exceptions=True
    )
    assert [reason_of(result) for result in results if isinstance(result, grpc.aio.AioRpcError)] == [
        "ILLEGAL_TRANSITION"
    ]
    [ended] = [result for result in results if isinstance(result, Run)]
    assert ended.ended_at.ToNanoseconds() >= ended.started_at.ToNanoseconds()


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ("DRAFT", "status = 'RUNNING'"),
        ("RUNNING", "status = 'SUCCEEDED'"),
        ("RUNNING", "ended_at = now()"),
        ("RUNNING", "started_at = NULL"),
        ("SUCCEEDED", "ended_at = NULL"),
        ("DRAFT", "status = 'PAUSED'"),
    ],
)
async def test_database_refuses_what_the_code_forgot(rig, lab, state, change):
    """States without their timestamps, timestamps without their states, unknown states."""
    run = await make_run(lab, state)
    with pytest.raises(psycopg.errors.CheckViolation):
        await rows(rig, f"UPDATE runs SET {change} WHERE run_id = %s", run.run_id)
