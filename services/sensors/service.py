"""SensorService."""

from datetime import timedelta

from rigmesh.v1.sensor_pb2 import Sensor
from rigmesh.v1.sensor_service_pb2 import (
    CreateSensorRequest,
    GetSensorRequest,
    ListSensorsRequest,
    ListSensorsResponse,
    RotateSensorTokenRequest,
)
from services.db.page import open_page
from services.rpc import tokens
from services.rpc.call import Call
from services.sensors import queries

DEFAULT_OVERLAP = timedelta(hours=24)


async def CreateSensor(request: CreateSensorRequest, call: Call) -> Sensor:
    sensor = await queries.insert_sensor(call.db, call.principal.user_id, request.sensor)
    call.emit("sensor", sensor.sensor_id, project_id=sensor.project_ids[0], after=sensor)
    return await _give_token(call, sensor)


async def GetSensor(request: GetSensorRequest, call: Call) -> Sensor:
    return await queries.select_sensor(call.db, call.principal.user_id, request.sensor_id)


async def ListSensors(request: ListSensorsRequest, call: Call) -> ListSensorsResponse:
    page = open_page(request, call.key("page"))
    rows = await queries.select_sensors(call.db, call.principal.user_id, request, page)
    sensors, next_page_token = page.cut(rows, lambda sensor: sensor.sensor_id)
    return ListSensorsResponse(sensors=sensors, next_page_token=next_page_token)


async def RotateSensorToken(request: RotateSensorTokenRequest, call: Call) -> Sensor:
    overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else DEFAULT_OVERLAP
    before = await queries.select_sensor(call.db, call.principal.user_id, request.sensor_id, lock=True)
    await queries.limit_tokens(call.db, before.sensor_id, overlap)
    after = await queries.touch_sensor(call.db, call.principal.user_id, before.sensor_id)
    # Only editors of the primary project come here, so they see it, and it is the first.
    call.emit("sensor", after.sensor_id, project_id=after.project_ids[0], before=before, after=after)
    return await _give_token(call, after)


async def _give_token(call: Call, sensor: Sensor) -> Sensor:
    token = tokens.new_token(tokens.SENSOR)
    await queries.insert_token(call.db, sensor.sensor_id, token)
    sensor.token = str(token)
    return sensor
