from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from rigmesh.v1.run_service_pb2 import AttachSensorRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from tests.e2e.rest import Rest
from tests.factory import make_run, make_sensor, make_session

RestAs = Callable[[Any], Rest]


@dataclass(frozen=True)
class Recording:
    """A sensor attached to a run with a running session; `token` is the sensor's."""

    sensor_id: str
    token: str
    run_id: str
    capture_session_id: str

    def channel(self, signal: str) -> str:
        return f"{self.sensor_id}/{signal}"


@pytest.fixture
def rest(edge: str) -> RestAs:
    """Gives the REST side of a caller, or of a bare token."""

    def speak(caller: Any) -> Rest:
        return Rest(edge, {"authorization": f"Bearer {getattr(caller, 'token', caller)}"})

    return speak


@pytest.fixture
async def recording(lab: Any) -> Recording:
    run, sensor = await make_run(lab, "RUNNING"), await make_sensor(lab)
    runs = lab.editor.stub(RunServiceStub)
    await runs.AttachSensor(AttachSensorRequest(run_id=run.run_id, sensor_id=sensor.sensor_id))
    session = await make_session(lab, run.run_id)
    return Recording(sensor.sensor_id, sensor.token, run.run_id, session.capture_session_id)
