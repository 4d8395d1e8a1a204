"""GetSeries against brute force, in the corners of its arithmetic."""

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.telemetry_service_pb2 import GetSeriesRequest
from services.telemetry.reads.buckets import Buckets
from services.telemetry.reads.live import snapshot
from services.telemetry.reads.physical import Conversion, Converter, Stretch
from services.telemetry.reads.selection import select_channels
from services.telemetry.reads.stored import FOREVER_NS, Range
from tests.factory import make_profile
from tests.telemetry.device import opened, regular
from tests.telemetry.inside import reading

MS = 10**6


def at(time_ns: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(time_ns)
    return stamp


async def send(bench: Any, producer: str, batches: list[pb.Series]) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax"), producer=producer, boot_id=producer) as (device, _):
        for seq, series in enumerate(batches, 1):
            await device.send(batch=pb.Batch(seq=seq, series=[series]))
        await device.acked(len(batches))


def irregular(start_ns: int, times_ns: list[int], values: list[float]) -> pb.Series:
    deltas = np.diff([start_ns, *times_ns]).tolist()
    return pb.Series(
        alias=1, irregular=pb.Irregular(start_ns=start_ns, delta_ns=deltas), doubles=pb.Doubles(values=values)
    )


async def store_two_clocks(bench: Any) -> None:
    """One producer with regular blocks; another with random ones that overlap them, and each other, in part."""
    rng = np.random.default_rng(11)
    starts = bench.now_ns + np.arange(40) * 50 * MS
    await send(bench, "one", [regular(1, start, rng.normal(size=40).tolist()) for start in starts.tolist()])
    batches = []
    for number in range(60):
        start_ns = bench.now_ns + int(rng.integers(900, 3000)) * MS
        values = rng.normal(size=int(rng.integers(1, 30)))
        values[0] = [math.nan, math.inf, 1e308, values[0]][number % 4]
        times = np.sort(start_ns + rng.integers(0, 90 * MS, len(values)))
        batches.append(irregular(start_ns, times.tolist(), values.tolist()))
    await send(bench, "two", batches)


@pytest.mark.parametrize("max_points", [2, 7, 100, 900])
@pytest.mark.parametrize("view", ["RAW", "PHYSICAL"])
async def test_buckets_of_overlapping_blocks_are_those_of_their_samples(bench: Any, max_points: int, view: str) -> None:
    await store_two_clocks(bench)
    scale = 1.0
    if view == "PHYSICAL":
        scale = -2.0
        await make_profile(bench.lab, bench.sensor_id, ax=scale)
    start_ns, end_ns = bench.now_ns + 123 * MS, bench.now_ns + 2600 * MS
    within = {"start_at": at(start_ns), "end_at": at(end_ns)}
    request = GetSeriesRequest(channels=[bench.channel("ax")], view=view, max_points=max_points, **within)
    (series,) = (await bench.reads.GetSeries(request)).series
    samples = await bench.stored("ax", **within)
    times = np.array([t for t, _ in samples])
    with np.errstate(over="ignore"):
        values = np.array([v for _, v in samples]) * scale
    assert series.samples == len(values)
    assert len(series.time_ns) <= max_points
    index = np.searchsorted(np.array(series.time_ns), times, side="right") - 1
    for bucket in range(len(series.time_ns)):
        inside = values[index == bucket]
        numbers = inside[~np.isnan(inside)]
        assert series.count[bucket] == len(inside)
        if len(numbers):
            assert (series.min[bucket], series.max[bucket]) == (numbers.min(), numbers.max())
            with np.errstate(invalid="ignore", over="ignore"):
                assert series.mean[bucket] == pytest.approx(numbers.sum() / len(numbers), nan_ok=True)


def test_edges_ascend_in_a_range_of_nanoseconds() -> None:
    start_ns = 1_700_000_000_123_456_789
    for span_ns, count in ((1000, 64), (10, 5000), (1, 2), (2**62, 5000)):
        buckets = Buckets(Range(start_ns, start_ns + span_ns), count)
        assert buckets.start_ns[0] == start_ns
        assert len(buckets.start_ns) <= count
        assert (np.diff(buckets.start_ns) > 0).all()
        ends = np.array([start_ns, start_ns + span_ns - 1])
        buckets.add_samples(ends, np.array([1.0, 2.0]))
        assert buckets.count.sum() == 2


async def test_many_small_blocks_cost_the_buckets_only(bench: Any, rig: Any) -> None:
    """The database tells a bucket in one row, not a block."""
    await send(bench, "one", [regular(1, bench.now_ns + number * MS, [1.0]) for number in range(500)])
    async with reading(rig, bench) as (_, call, _), snapshot(call.pools.scan) as db:
        request = GetSeriesRequest(channels=[bench.channel("ax")])
        (channel,) = await select_channels(db, call.principal.user_id, request)
        buckets = Buckets(Range(bench.now_ns - MS, bench.now_ns + 500 * MS), 10)
        converter = Converter((Stretch(-FOREVER_NS, FOREVER_NS, Conversion("", "g")),))
        answered = await buckets._read(db, channel, converter)
        assert len(answered) <= 11
        rest = await buckets.add_blocks(db, channel, converter)
    assert buckets.count.sum() + rest.n.sum() == 500
    assert len(rest.n) < 20


STRANGE = {
    "constant": [3.0] * 400,
    "nan": [math.nan] * 400,
    "infinite": [math.inf, -math.inf, 1e308, -1e308] * 100,
    "mixed": [math.nan, 1.0] * 200,
}


@pytest.mark.parametrize("max_points", [2, 3, 5, 399])
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("period_ns", [0, 1, MS])
async def test_lttb_answers_whatever_the_values_are(bench: Any, max_points: int, kind: str, period_ns: int) -> None:
    values = STRANGE[kind]
    times = [bench.now_ns + i // 3 * period_ns for i in range(len(values))]
    await send(bench, "one", [irregular(bench.now_ns, times, values)])
    request = GetSeriesRequest(channels=[bench.channel("ax")], view="RAW", max_points=max_points, method="LTTB")
    (series,) = (await bench.reads.GetSeries(request)).series
    assert series.samples == len(values)
    assert len(series.time_ns) == max_points
    assert list(series.time_ns) == sorted(series.time_ns)


@pytest.mark.parametrize("method", ["MIN_MAX", "LTTB"])
async def test_integers_that_no_double_holds_are_rounded(bench: Any, method: str) -> None:
    values = [2**62 + number for number in range(-600, 600)]
    series = pb.Series(
        alias=1, regular=pb.Regular(start_ns=bench.now_ns, period_ns=MS), integers=pb.Integers(values=values)
    )
    await send(bench, "one", [series])
    request = GetSeriesRequest(channels=[bench.channel("ax")], view="RAW", max_points=10, method=method)
    (answer,) = (await bench.reads.GetSeries(request)).series
    assert answer.samples == len(values)
    assert (min(answer.min), max(answer.max)) == (float(values[0]), float(values[-1]))
