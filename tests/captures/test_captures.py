"""Capture sessions over the wire: create, get, list, pins, and who may."""

import asyncio

import psycopg
import pytest
from uuid_utils import uuid7

from rigmesh.v1.capture_service_pb2 import (
    CreateCaptureSessionRequest,
    ListCaptureSessionsRequest,
    StopCaptureSessionRequest,
)
from rigmesh.v1.capture_service_pb2_grpc import CaptureServiceStub
from rigmesh.v1.capture_session_pb2 import CaptureSession
from tests.factory import events_of, make_profile, make_project, make_run, make_sensor, make_session, rows
from tests.refusals import refused


def listing(caller, run, **filters):
    request = ListCaptureSessionsRequest(run_id=run.run_id, **filters)
    return caller.stub(CaptureServiceStub).ListCaptureSessions(request)


async def test_session_starts_unless_told_otherwise(lab):
    """Even with an empty request."""
    run = await make_run(lab, "RUNNING")
    stub = lab.editor.stub(CaptureServiceStub)
    started = await stub.CreateCaptureSession(CreateCaptureSessionRequest(run_id=run.run_id))
    assert (started.status, started.ordinal_number) == (CaptureSession.RUNNING, 1)
    assert (started.run_id, started.project_id) == (run.run_id, lab.project_id)
    assert started.started_at.ToNanoseconds() >= started.created_at.ToNanoseconds()
    draft = await make_session(lab, run.run_id, start=False, name="second", notes="by hand")
    assert (draft.status, draft.ordinal_number, draft.notes) == (CaptureSession.DRAFT, 2, "by hand")
    assert not draft.HasField("started_at")


async def test_draft_session_in_a_draft_run(lab):
    """Sessions can be prepared before the run begins."""
    run = await make_run(lab)
    assert (await make_session(lab, run.run_id, start=False)).status == CaptureSession.DRAFT


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "ARCHIVED"])
async def test_ended_run_takes_no_session(lab, state):
    """Not even a DRAFT."""
    run = await make_run(lab, state)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        await make_session(lab, run.run_id, start=False)
    assert refusal.info.metadata == {"resource": "run", "status": state, "allowed": "DRAFT,RUNNING"}


async def test_creation_is_an_event(rig, lab):
    """With the state that the session was created in."""
    session = await make_session(lab, (await make_run(lab, "RUNNING")).run_id)
    [event] = await events_of(rig, session.capture_session_id)
    assert (event["type"], event["before"]) == ("capture_session.created", None)
    assert (event["after"]["status"], event["after"]["ordinal_number"]) == ("RUNNING", 1)


async def test_ordinal_numbers_have_no_gaps(lab):
    """Twenty at once, some of them refused: 1, 2, 3, …"""
    run = await make_run(lab, "RUNNING")
    bad = [make_session(lab, run.run_id, pinned_profile_ids=[str(uuid7())]) for _ in range(5)]
    results = await asyncio.gather(*(make_session(lab, run.run_id) for _ in range(20)), *bad, return_exceptions=True)
    numbers = sorted(result.ordinal_number for result in results if isinstance(result, CaptureSession))
    assert numbers == list(range(1, 21))


async def test_list_is_by_ordinal_number_in_pages(lab):
    """Pages join without gap or overlap."""
    run = await make_run(lab, "RUNNING")
    for _ in range(5):
        await make_session(lab, run.run_id)
    numbers, token = [], ""
    while token or not numbers:
        answer = await listing(lab.viewer, run, page_size=2, page_token=token)
        numbers += [session.ordinal_number for session in answer.capture_sessions]
        token = answer.next_page_token
    assert numbers == [1, 2, 3, 4, 5]


async def test_list_by_state(lab):
    """Any of the states; only of this run."""
    run = await make_run(lab, "RUNNING")
    await make_session(lab, (await make_run(lab, "RUNNING")).run_id)
    first = await make_session(lab, run.run_id)
    await make_session(lab, run.run_id, start=False)
    stop = StopCaptureSessionRequest(
        run_id=run.run_id, capture_session_id=first.capture_session_id, outcome=CaptureSession.FAILED
    )
    await lab.editor.stub(CaptureServiceStub).StopCaptureSession(stop)

    async def found(*states):
        answer = await listing(lab.viewer, run, status=states)
        return [session.ordinal_number for session in answer.capture_sessions]

    assert await found() == [1, 2]
    assert await found("FAILED") == [1]
    assert await found("DRAFT", "RUNNING") == [2]
    assert await found("SUCCEEDED") == []


async def test_pins_are_read_back(rig, lab):
    """Those given, whichever case their ids are spelled in; the list answers them too."""
    run = await make_run(lab, "RUNNING")
    profiles = [await make_profile(lab, (await make_sensor(lab)).sensor_id) for _ in range(3)]
    ids = [profile.conversion_profile_id for profile in profiles]
    session = await make_session(lab, run.run_id, pinned_profile_ids=[ids[2], ids[0].upper(), ids[1]])
    assert list(session.pinned_profile_ids) == sorted(ids)
    assert list((await listing(lab.viewer, run)).capture_sessions) == [session]
    [event] = await events_of(rig, session.capture_session_id)
    assert event["after"]["pinned_profile_ids"] == sorted(ids)


async def test_a_replaced_version_can_be_pinned(lab):
    """That is what pins are for."""
    sensor = await make_sensor(lab)
    old = await make_profile(lab, sensor.sensor_id)
    await make_profile(lab, sensor.sensor_id)
    run = await make_run(lab, "RUNNING")
    session = await make_session(lab, run.run_id, pinned_profile_ids=[old.conversion_profile_id])
    assert list(session.pinned_profile_ids) == [old.conversion_profile_id]


async def test_draft_version_cannot_be_pinned(lab):
    """It may still change."""
    draft = await make_profile(lab, (await make_sensor(lab)).sensor_id, publish=False)
    run = await make_run(lab, "RUNNING")
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        await make_session(lab, run.run_id, pinned_profile_ids=[draft.conversion_profile_id])
    assert refusal.info.metadata["resource"] == "conversion_profile"


async def test_one_version_a_sensor(lab):
    """Two would contradict each other, and so would one given twice."""
    sensor = await make_sensor(lab)
    ids = [(await make_profile(lab, sensor.sensor_id)).conversion_profile_id for _ in range(2)]
    run = await make_run(lab, "RUNNING")
    for pinned in (ids, [ids[0], ids[0].upper()]):
        with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
            await make_session(lab, run.run_id, pinned_profile_ids=pinned)
        assert refusal.fields == ["capture_session.pinned_profile_ids"]


async def test_version_of_a_foreign_sensor_is_absent(rig, lab):
    """Even to someone who sees both projects; nothing of the session stays behind."""
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR"})
    foreign = await make_profile(lab, (await make_sensor(lab, project_ids=[second])).sensor_id)
    run = await make_run(lab, "RUNNING")
    for profile_id in (foreign.conversion_profile_id, str(uuid7())):
        with refused("NOT_FOUND", "NOT_FOUND") as refusal:
            await make_session(lab, run.run_id, pinned_profile_ids=[profile_id])
        assert refusal.info.metadata == {"resource": "conversion_profile", "id": profile_id}
    assert not (await listing(lab.viewer, run)).capture_sessions


async def test_database_keeps_one_pin_a_sensor(rig, lab):
    """The key stands behind the code."""
    sensor = await make_sensor(lab)
    first, second = [(await make_profile(lab, sensor.sensor_id)).conversion_profile_id for _ in range(2)]
    run = await make_run(lab, "RUNNING")
    session = await make_session(lab, run.run_id, pinned_profile_ids=[first])
    insert = "INSERT INTO session_profiles VALUES (%s, %s, %s)"
    with pytest.raises(psycopg.errors.UniqueViolation):
        await rows(rig, insert, session.capture_session_id, sensor.sensor_id, second)


async def test_who_may(lab):
    """A viewer reads, an editor writes, an outsider sees nothing."""
    run = await make_run(lab, "RUNNING")
    await make_session(lab, run.run_id)
    assert len((await listing(lab.viewer, run)).capture_sessions) == 1
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        request = CreateCaptureSessionRequest(run_id=run.run_id)
        await lab.viewer.stub(CaptureServiceStub).CreateCaptureSession(request)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await listing(lab.outsider, run)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await lab.outsider.stub(CaptureServiceStub).CreateCaptureSession(request)
