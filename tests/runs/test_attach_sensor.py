"""Sensors of a run."""

import asyncio

import pytest
from uuid_utils import uuid7

from rigmesh.v1.run_service_pb2 import AttachSensorRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from tests.factory import WAY, events_of, make_project, make_run, make_sensor, rows
from tests.refusals import refused


def attach(caller, run, sensor_id):
    return caller.stub(RunServiceStub).AttachSensor(AttachSensorRequest(run_id=run.run_id, sensor_id=sensor_id))


@pytest.mark.parametrize("state", [state for state in WAY if state != "ARCHIVED"])
async def test_attach(rig, lab, state):
    """In any state but ARCHIVED, with an event."""
    run, sensor = await make_run(lab, state), await make_sensor(lab)
    attached = await attach(lab.editor, run, sensor.sensor_id)
    assert (attached.run_id, attached.sensor_id) == (run.run_id, sensor.sensor_id)
    event = (await events_of(rig, run.run_id))[-1]
    assert (event["type"], event["before"]) == ("run.sensor.attached", None)
    assert event["after"]["sensor_id"] == sensor.sensor_id


async def test_archived_run_takes_no_sensor(lab):
    """It is final."""
    run, sensor = await make_run(lab, "ARCHIVED"), await make_sensor(lab)
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        await attach(lab.editor, run, sensor.sensor_id)


async def test_attaching_again_changes_nothing(rig, lab):
    """One after the other or at once: one row, one answer."""
    run, sensor = await make_run(lab), await make_sensor(lab)
    answers = await asyncio.gather(*(attach(lab.editor, run, sensor.sensor_id) for _ in range(10)))
    answers.append(await attach(lab.editor, run, sensor.sensor_id))
    assert all(answer == answers[0] for answer in answers)
    assert len(await rows(rig, "SELECT sensor_id FROM run_sensors WHERE run_id = %s", run.run_id)) == 1


async def test_sensor_of_another_project(rig, lab):
    """It is as absent as one that does not exist, even to someone who sees both projects."""
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR"})
    run, foreign = await make_run(lab), await make_sensor(lab, project_ids=[second])
    for sensor_id in (foreign.sensor_id, str(uuid7())):
        with refused("NOT_FOUND", "NOT_FOUND") as refusal:
            await attach(lab.editor, run, sensor_id)
        assert refusal.info.metadata == {"resource": "sensor", "id": sensor_id}


async def test_shared_sensor(rig, lab):
    """A sensor whose primary project is another one really works here."""
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR"})
    shared = await make_sensor(lab, project_ids=[second, lab.project_id])
    assert (await attach(lab.editor, await make_run(lab), shared.sensor_id)).sensor_id == shared.sensor_id


async def test_viewer_cannot_attach(lab):
    """It needs the editor role."""
    run, sensor = await make_run(lab), await make_sensor(lab)
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await attach(lab.viewer, run, sensor.sensor_id)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await attach(lab.outsider, run, sensor.sensor_id)
