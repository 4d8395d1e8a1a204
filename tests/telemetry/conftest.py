import time
from dataclasses import dataclass
from typing import Any

import pytest

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.run_service_pb2 import AttachSensorRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from rigmesh.v1.telemetry_service_pb2 import QueryTelemetryRequest
from rigmesh.v1.telemetry_service_pb2_grpc import TelemetryServiceStub
from tests.factory import make_run, make_sensor, make_session


@dataclass(frozen=True)
class Bench:
    """A sensor attached to a run with a RUNNING session. Times in nanoseconds since 1970."""

    lab: Any
    address: str
    sensor_id: str
    token: str
    run_id: str
    capture_session_id: str
    now_ns: int
    reads: Any

    def channel(self, signal: str) -> str:
        return f"{self.sensor_id}/{signal}"

    def bind(self, *signals: str) -> list[pb.ChannelBinding]:
        return [pb.ChannelBinding(alias=alias, signal=signal, unit="g") for alias, signal in enumerate(signals, 1)]

    async def stored(self, signal: str, **fields: Any) -> list[tuple[int, float]]:
        """All samples of a signal as (time, raw value); the answer's in-band end is checked."""
        request = QueryTelemetryRequest(**{"channels": [self.channel(signal)], "view": "RAW", **fields})
        responses = [response async for response in self.reads.QueryTelemetry(request)]
        assert responses[-1].WhichOneof("result") == "end"
        samples = [
            sample
            for response in responses[:-1]
            for sample in zip(
                response.chunk.time_ns, list(response.chunk.values) or list(response.chunk.integers), strict=True
            )
        ]
        assert responses[-1].end.samples == len(samples)
        return samples


@pytest.fixture
async def bench(rig: Any, lab: Any) -> Bench:
    run = await make_run(lab, "RUNNING")
    sensor = await make_sensor(lab)
    runs = lab.editor.stub(RunServiceStub)
    await runs.AttachSensor(AttachSensorRequest(run_id=run.run_id, sensor_id=sensor.sensor_id))
    session = await make_session(lab, run.run_id)
    return Bench(
        lab,
        rig.telemetry,
        sensor.sensor_id,
        sensor.token,
        run.run_id,
        session.capture_session_id,
        time.time_ns(),
        lab.viewer.at(rig.telemetry_channel).stub(TelemetryServiceStub),
    )
