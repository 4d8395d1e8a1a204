"""Corners that a caller can reach through the edge, each of which once had no proper answer."""

import asyncio

import pytest

from rigmesh_client import Channel, SensorStream, connect
from tests.conftest import Lab, Rig
from tests.e2e.conftest import Recording, RestAs


async def test_two_points_are_answered(rest: RestAs, lab: Lab, rig: Rig, recording: Recording) -> None:
    async with connect(rig.envoy, recording.token) as device, SensorStream(device, "imu", [Channel("ax")]) as stream:
        await stream.send({"ax": [1.0, 2.0, 3.0]}, start_ns=10**18, period_ns=1)
    path = f"/telemetry/series?channels={recording.channel('ax')}&method=LTTB&max_points=2"
    async with asyncio.timeout(5):
        assert (await rest(lab.viewer).ask("GET", path)).status == 200


@pytest.mark.parametrize("size", [4_190_000, 4_200_000, 4_250_000])
async def test_json_that_is_too_large_as_a_message_is_told_as_too_large(rest: RestAs, lab: Lab, size: int) -> None:
    answer = await rest(lab.owner).ask("POST", "/projects", {"name": "x" * size})
    assert (answer.status, answer.reason) in {(400, "INVALID_FIELDS"), (413, "LIMIT_EXCEEDED"), (429, "LIMIT_EXCEEDED")}
