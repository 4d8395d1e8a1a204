"""Processes are killed while a device streams through the edge: nothing is lost, nothing is doubled.

Each kill makes `rigmesh up` wait longer before the next start, so there are few.
"""

import asyncio
import os
import signal
from contextlib import aclosing
from http.client import HTTPException

import numpy as np
import pytest

from rigmesh_client import RAW, Channel, Connection, Selection, SensorStream, connect, live, read
from tests.conftest import Lab, Rig
from tests.e2e.conftest import Recording, RestAs
from tests.e2e.processes import pid_of, until_back
from tests.e2e.rest import Events
from tests.factory import rows

BATCHES, SAMPLES, KILL_AT = 300, 200, 100
COUNT = BATCHES * SAMPLES
START_NS, MS = 1_700_000_000 * 10**9, 1_000_000
OUTAGE_S = 60.0


async def send_all(connection: Connection, rig: Rig, *victim: str) -> None:
    """Values count up; a process is killed while some of them are on their way."""
    async with SensorStream(connection, "imu", [Channel("ax", "g")], max_batches=64) as stream:
        for number in range(BATCHES):
            if number == KILL_AT:
                os.kill(pid_of(rig.pid, *victim), signal.SIGKILL)
            values = np.arange(number * SAMPLES, (number + 1) * SAMPLES, dtype=np.float64)
            await stream.send({"ax": values}, start_ns=START_NS + number * SAMPLES * MS, period_ns=MS)
    assert stream.reconnections
    assert not stream.rejects


async def receive_all(reader: Connection, recording: Recording) -> list[float]:
    came = list[float]()
    async with aclosing(live(reader, Selection(run_id=recording.run_id, start_ns=0), view=RAW)) as samples:
        while len(came) < COUNT:
            came += (await anext(samples)).values.tolist()
    return came


async def assert_stored_once(rig: Rig, reader: Connection, recording: Recording) -> None:
    stored = (await read(reader, Selection(run_id=recording.run_id), view=RAW))[recording.channel("ax")]
    assert np.array_equal(stored.values, np.arange(COUNT))
    assert np.array_equal(stored.time_ns, START_NS + np.arange(COUNT) * MS)
    # Reads would hide a second copy of the same times: the rows show it.
    [blocks] = await rows(
        rig,
        "SELECT sum(n) AS samples FROM sample_blocks JOIN channels USING (channel_id) WHERE sensor_id = %s",
        recording.sensor_id,
    )
    assert blocks["samples"] == COUNT


async def test_kill_9_of_telemetry_is_seen_and_made_good(
    rest: RestAs, lab: Lab, rig: Rig, recording: Recording
) -> None:
    """The device sends everything once, the client's reader gets everything once, a plain reader sees the break."""
    async with (
        asyncio.timeout(OUTAGE_S),
        connect(rig.envoy, recording.token) as device,
        connect(rig.envoy, lab.viewer.token) as reader,
        rest(lab.viewer).events("/telemetry/stream", run_id=recording.run_id) as events,
    ):
        await events.until("heartbeat")
        _, came, _ = await asyncio.gather(
            send_all(device, rig, "serve", "telemetry"), receive_all(reader, recording), no_end(events)
        )
        assert came == list(range(COUNT))
        await assert_stored_once(rig, reader, recording)
    await until_back(rig)


async def no_end(events: Events) -> None:
    """Without its last message an answer is not complete, however the connection looks."""
    with pytest.raises((AssertionError, HTTPException, OSError)):
        await events.until("end")


async def test_kill_9_of_the_edge_loses_nothing_and_doubles_nothing(lab: Lab, rig: Rig, recording: Recording) -> None:
    async with (
        asyncio.timeout(OUTAGE_S),
        connect(rig.envoy, recording.token) as device,
        connect(rig.envoy, lab.viewer.token) as reader,
    ):
        await send_all(device, rig, "--disable-hot-restart")
        await assert_stored_once(rig, reader, recording)
    await until_back(rig)


async def test_a_service_that_is_away_is_unavailable_and_comes_back(rest: RestAs, lab: Lab, rig: Rig) -> None:
    viewer = rest(lab.viewer)
    os.kill(pid_of(rig.pid, "serve", "control"), signal.SIGKILL)
    seen = set[tuple[int, str]]()
    async with asyncio.timeout(OUTAGE_S):
        while (answer := await viewer.ask("GET", f"/projects/{lab.project_id}")).status != 200 or not seen:
            if answer.status != 200:
                seen.add((answer.status, answer.reason))
                assert int(answer.headers["retry-after"]) >= 1
            await asyncio.sleep(0.02)
    assert seen == {(503, "UNAVAILABLE")}
    await until_back(rig)
