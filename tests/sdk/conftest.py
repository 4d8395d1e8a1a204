from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from rigmesh.v1.run_service_pb2 import AttachSensorRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from rigmesh_client import RAW, Connection, Samples, Selection, connect, read
from tests.factory import make_run, make_sensor, make_session
from tests.sdk.cutting_proxy import CuttingProxy, cutting_proxy


@dataclass
class Device:
    """A sensor attached to a run with one running capture session, and someone who may read what it sends."""

    sensor_id: str
    token: str
    run_id: str
    capture_session_id: str
    target: str
    proxy: CuttingProxy
    sensor: Connection
    """With the sensor's token, through the proxy."""
    reader: Connection
    reader_token: str

    async def stored(self, signal: str) -> Samples:
        """All raw samples of a signal."""
        channel = f"{self.sensor_id}/{signal}"
        selection = Selection(channels=[channel], capture_session_id=self.capture_session_id)
        return (await read(self.reader, selection, view=RAW))[channel]


@pytest.fixture
async def device(rig: Any, lab: Any) -> AsyncIterator[Device]:
    run = await make_run(lab, "RUNNING")
    sensor = await make_sensor(lab)
    await lab.editor.stub(RunServiceStub).AttachSensor(
        AttachSensorRequest(run_id=run.run_id, sensor_id=sensor.sensor_id)
    )
    session = await make_session(lab, run.run_id)
    async with (
        cutting_proxy(rig.telemetry) as proxy,
        connect(proxy.endpoint, sensor.token) as connection,
        connect(rig.telemetry, lab.viewer.token) as reader,
    ):
        yield Device(
            sensor.sensor_id,
            sensor.token,
            run.run_id,
            session.capture_session_id,
            rig.telemetry,
            proxy,
            connection,
            reader,
            lab.viewer.token,
        )
