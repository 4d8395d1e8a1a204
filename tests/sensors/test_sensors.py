"""Sensors over the wire: create, get, list, and who sees which of their projects."""

import psycopg
import pytest
from uuid_utils import uuid7

from rigmesh.v1.sensor_pb2 import Sensor
from rigmesh.v1.sensor_service_pb2 import CreateSensorRequest, GetSensorRequest, ListSensorsRequest
from rigmesh.v1.sensor_service_pb2_grpc import SensorServiceStub
from services.rpc.tokens import SENSOR, parse_token
from tests.factory import events_of, make_project, make_sensor, rows
from tests.refusals import refused


def get(caller, sensor):
    return caller.stub(SensorServiceStub).GetSensor(GetSensorRequest(sensor_id=sensor.sensor_id))


async def listed(caller, **filters):
    answer = await caller.stub(SensorServiceStub).ListSensors(ListSensorsRequest(**filters))
    return [sensor.sensor_id for sensor in answer.sensors]


async def test_what_is_created_is_read_back(lab):
    """Every field but the token, which is answered once."""
    created = await make_sensor(lab, name="IMU links", description="left arm", labels={"axis": "left", "bench": "3"})
    token = parse_token(created.token)
    assert token is not None
    assert token.prefix == SENSOR
    read = await get(lab.viewer, created)
    assert read.token == ""
    read.token = created.token
    assert read == created
    assert dict(read.labels) == {"axis": "left", "bench": "3"}
    assert list(read.project_ids) == [lab.project_id]


async def test_token_is_kept_nowhere(rig, lab):
    """Neither its text nor its secret is in any row; the event has none."""
    created = await make_sensor(lab)
    [event] = await events_of(rig, created.sensor_id)
    assert (event["type"], "token" in event["after"]) == ("sensor.created", False)
    secret = created.token.split("_")[2]
    for table in ("events", "sensors", "sensor_tokens"):
        assert not await rows(rig, f"SELECT 1 FROM {table} t WHERE strpos(t::text, %s) > 0", secret)


async def test_first_project_is_primary(rig, lab):
    """The order given is the order read; the event belongs to the primary project."""
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR"})
    for order in ([lab.project_id, second], [second, lab.project_id]):
        created = await make_sensor(lab, project_ids=order)
        assert list(created.project_ids) == order
        assert list((await get(lab.editor, created)).project_ids) == order
        [event] = await events_of(rig, created.sensor_id)
        assert str(event["project_id"]) == order[0]


async def test_only_visible_projects_are_named(rig, lab):
    """A member of one project does not learn of the other, whichever is primary."""
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR"})
    for order in ([lab.project_id, second], [second, lab.project_id]):
        created = await make_sensor(lab, project_ids=order)
        assert list((await get(lab.viewer, created)).project_ids) == [lab.project_id]
        answer = await lab.viewer.stub(SensorServiceStub).ListSensors(ListSensorsRequest())
        assert list(answer.sensors[0].project_ids) == [lab.project_id]


async def test_editor_role_is_needed_in_each_project(rig, lab):
    """One project with less is enough for a refusal, and nothing is created."""
    viewed = await make_project(rig, **{lab.editor.user_id: "VIEWER"})
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await make_sensor(lab, project_ids=[lab.project_id, viewed])
    foreign = await make_project(rig)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await make_sensor(lab, project_ids=[lab.project_id, foreign])
    assert await listed(lab.editor, project_id=lab.project_id) == []


async def test_same_project_in_another_spelling(lab):
    """UUIDs have two cases."""
    created = await make_sensor(lab, project_ids=[lab.project_id, lab.project_id.upper()])
    assert list(created.project_ids) == [lab.project_id]


async def test_list_is_newest_first_in_pages(lab):
    """Pages join without gap or overlap."""
    ids = [(await make_sensor(lab)).sensor_id for _ in range(5)]
    stub, seen, token = lab.viewer.stub(SensorServiceStub), [], ""
    while token or not seen:
        request = ListSensorsRequest(project_id=lab.project_id, page_size=2, page_token=token)
        answer = await stub.ListSensors(request)
        seen += [sensor.sensor_id for sensor in answer.sensors]
        assert not any(sensor.token for sensor in answer.sensors)
        token = answer.next_page_token
    assert seen == ids[::-1]


async def test_list_by_project(rig, lab):
    """A shared sensor is in each of its projects, and once in the list of all."""
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR"})
    shared = (await make_sensor(lab, project_ids=[second, lab.project_id])).sensor_id
    own = (await make_sensor(lab)).sensor_id
    assert (await listed(lab.editor))[:2] == [own, shared]
    assert await listed(lab.editor, project_id=lab.project_id) == [own, shared]
    assert await listed(lab.editor, project_id=second) == [shared]


async def test_who_may(lab):
    """A viewer reads, an outsider sees nothing."""
    sensor = await make_sensor(lab)
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        request = CreateSensorRequest(sensor=Sensor(project_ids=[lab.project_id], name="x"))
        await lab.viewer.stub(SensorServiceStub).CreateSensor(request)
    with refused("NOT_FOUND", "NOT_FOUND") as foreign:
        await get(lab.outsider, sensor)
    with refused("NOT_FOUND", "NOT_FOUND") as absent:
        await get(lab.outsider, Sensor(sensor_id=str(uuid7())))
    assert foreign.text == absent.text
    assert sensor.sensor_id not in await listed(lab.outsider)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await listed(lab.outsider, project_id=lab.project_id)


async def test_database_refuses_a_sensor_without_project(rig, lab):
    """The NOT NULL and the foreign key stand behind the code."""
    sensor = await make_sensor(lab)
    change = "UPDATE sensors SET primary_project_id = %s::uuid WHERE sensor_id = %s"
    with pytest.raises(psycopg.errors.NotNullViolation):
        await rows(rig, change, None, sensor.sensor_id)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await rows(rig, change, str(uuid7()), sensor.sensor_id)
