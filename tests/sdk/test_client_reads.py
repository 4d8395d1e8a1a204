"""The client's reads against a real server."""

import asyncio
from contextlib import aclosing
from typing import Any

import numpy as np

from rigmesh_client import RAW, Channel, Selection, SensorStream, connect, latest, live, query, series
from tests.sdk.cutting_proxy import cutting_proxy

START_NS = 1_700_000_000 * 10**9
MS = 1_000_000
COUNT = 30_000


async def store(device: Any, first: int, count: int) -> None:
    async with SensorStream(device.sensor, "imu", [Channel("ax", "g")]) as stream:
        values = np.arange(first, first + count, dtype=np.float64)
        await stream.send({"ax": values}, start_ns=START_NS + first * MS, period_ns=MS)


async def test_a_range_is_read_in_time_order(device: Any) -> None:
    await store(device, 0, COUNT)
    selection = Selection(run_id=device.run_id, start_ns=START_NS + 100 * MS, end_ns=START_NS + 20_000 * MS)
    parts = [part async for part in query(device.reader, selection, view=RAW)]
    assert np.array_equal(np.concatenate([part.values for part in parts]), np.arange(100, 20_000))


async def test_a_session_is_decimated(device: Any) -> None:
    await store(device, 0, COUNT)
    (points,) = await series(device.reader, Selection(run_id=device.run_id), max_points=100)
    assert points.samples == points.count.sum() == COUNT
    assert points.time_ns.size <= 100
    assert (points.min.min(), points.max.max()) == (0, COUNT - 1)


async def test_the_newest_sample(device: Any) -> None:
    await store(device, 0, 10)
    channel = f"{device.sensor_id}/ax"
    newest = (await latest(device.reader, Selection(channels=[channel])))[channel].newest
    assert (newest.time_ns, newest.number) == (START_NS + 9 * MS, 9.0)


async def test_live_samples_come_once_across_a_cut(device: Any) -> None:
    await store(device, 0, 100)
    came: list[float] = []
    async with cutting_proxy(device.target) as proxy, connect(proxy.endpoint, device.reader_token) as reader:
        selection = Selection(capture_session_id=device.capture_session_id, start_ns=0)
        async with asyncio.timeout(30), aclosing(live(reader, selection, view=RAW)) as samples:
            for end in (100, 200, 300):
                while len(came) < end:
                    came += (await anext(samples)).values.tolist()
                await store(device, end, 100)
                if end == 200:
                    proxy.cut()
    assert came == list(range(300))
