import asyncio
import math
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from rigmesh.v1.telemetry_service_pb2 import (
    GetLatestRequest,
    GetSeriesRequest,
    ListChannelsRequest,
    QueryTelemetryRequest,
    StreamTelemetryRequest,
)
from rigmesh.v1.telemetry_service_pb2_grpc import TelemetryServiceStub
from tests.factory import make_profile
from tests.telemetry.device import opened, regular

SECOND = 10**9


def at(time_ns: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(time_ns)
    return stamp


async def store(bench: Any, signal: str, batches: list[list[float]], period_ns: int = 1_000_000) -> int:
    """Stores batches one after the other from bench.now_ns on; returns the time after the last sample."""
    start = bench.now_ns
    async with opened(bench.address, bench.token, bench.bind(signal)) as (device, _):
        for seq, values in enumerate(batches, 1):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, start, values, period_ns)]))
            start += len(values) * period_ns
        await device.acked(len(batches))
    return start


async def test_a_range_takes_its_start_and_leaves_its_end(bench: Any) -> None:
    await store(bench, "ax", [[0.0, 1.0, 2.0], [3.0, 4.0]])
    samples = await bench.stored("ax", start_at=at(bench.now_ns + 1_000_000), end_at=at(bench.now_ns + 4_000_000))
    assert [value for _, value in samples] == [1.0, 2.0, 3.0]


async def test_physical_values_go_through_the_profile_and_raw_ones_do_not(bench: Any) -> None:
    await store(bench, "ax", [[1.0, 2.0]])
    profile = await make_profile(bench.lab, bench.sensor_id, ax=9.80665)
    request = QueryTelemetryRequest(channels=[bench.channel("ax")])
    responses = [response async for response in bench.reads.QueryTelemetry(request)]
    chunk = responses[0].chunk
    assert list(chunk.values) == [9.80665, 19.6133]
    assert chunk.conversion_profile_id == profile.conversion_profile_id
    assert [value for _, value in await bench.stored("ax")] == [1.0, 2.0]


async def test_a_series_of_many_samples_keeps_what_sticks_out(bench: Any) -> None:
    rng = np.random.default_rng(5)
    batches = [rng.normal(size=997).tolist() for _ in range(20)]
    batches[7][100] = 1e6
    batches[12][3] = math.nan
    end = await store(bench, "ax", batches)
    request = GetSeriesRequest(channels=[bench.channel("ax")], view="RAW", max_points=64)
    (series,) = (await bench.reads.GetSeries(request)).series
    values = np.concatenate(batches)
    assert series.samples == len(values) == sum(series.count)
    assert len(series.time_ns) <= 64
    assert max(series.max) == 1e6
    assert min(series.min) == np.nanmin(values)
    edges = [*series.time_ns, end]
    index = np.searchsorted(np.array(edges), bench.now_ns + np.arange(len(values)) * 1_000_000, side="right") - 1
    for bucket in range(len(series.time_ns)):
        inside = values[index == bucket]
        assert series.count[bucket] == len(inside)
        assert series.min[bucket] == np.nanmin(inside)
        assert series.max[bucket] == np.nanmax(inside)
        assert series.mean[bucket] == pytest.approx(np.nanmean(inside))


@pytest.mark.parametrize("method", ["MIN_MAX", "LTTB"])
async def test_few_samples_are_answered_one_by_one(bench: Any, method: str) -> None:
    await store(bench, "ax", [[float(i) for i in range(500)], [1.0, 2.0]])
    request = GetSeriesRequest(
        channels=[bench.channel("ax")],
        view="RAW",
        max_points=10,
        method=method,
        start_at=at(bench.now_ns + 10_000_000),
        end_at=at(bench.now_ns + 15_000_000),
    )
    (series,) = (await bench.reads.GetSeries(request)).series
    assert list(series.mean) == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert list(series.time_ns) == [bench.now_ns + i * 1_000_000 for i in range(10, 15)]


async def test_lttb_chooses_samples_that_exist(bench: Any) -> None:
    values = np.sin(np.arange(5000) / 50).tolist()
    await store(bench, "ax", [values[:2500], values[2500:]])
    request = GetSeriesRequest(channels=[bench.channel("ax")], view="RAW", max_points=100, method="LTTB")
    (series,) = (await bench.reads.GetSeries(request)).series
    assert len(series.time_ns) == 100
    for time_ns, value in zip(series.time_ns, series.mean, strict=True):
        assert value == values[(time_ns - bench.now_ns) // 1_000_000]


async def test_latest_tells_the_newest_and_the_last_received(bench: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        for seq, (offset, value) in enumerate([(0, 1.0), (10 * SECOND, 2.0), (5 * SECOND, 3.0)], 1):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + offset, [value])]))
            await device.acked(seq)
    answer = await bench.reads.GetLatest(GetLatestRequest(channels=[bench.channel("ax")], view="RAW"))
    (latest,) = answer.samples
    assert (latest.newest.time_ns, latest.newest.number) == (bench.now_ns + 10 * SECOND, 2.0)
    assert (latest.last_received.time_ns, latest.last_received.number) == (bench.now_ns + 5 * SECOND, 3.0)
    assert latest.newest.capture_session_id == bench.capture_session_id


async def test_a_viewer_of_another_project_sees_only_its_own_sessions(bench: Any, rig: Any) -> None:
    """One sensor in two projects: each sees the samples of its sessions, the second none of the first's."""
    outsider = bench.lab.outsider
    second = await outsider.stub(ProjectServiceStub).CreateProject(CreateProjectRequest(project=Project(name="second")))
    from tests.factory import rows

    await rows(
        rig,
        "INSERT INTO sensor_projects (sensor_id, project_id, position) VALUES (%s, %s, 1)",
        bench.sensor_id,
        second.project_id,
    )
    await store(bench, "ax", [[1.0]])
    reads = outsider.at(rig.telemetry_channel).stub(TelemetryServiceStub)
    request = QueryTelemetryRequest(channels=[bench.channel("ax")], view="RAW")
    responses = [response async for response in reads.QueryTelemetry(request)]
    assert [response.WhichOneof("result") for response in responses] == ["end"]
    assert not (await reads.GetLatest(GetLatestRequest(channels=[bench.channel("ax")]))).samples
    (listed,) = (await reads.ListChannels(ListChannelsRequest(sensor_id=bench.sensor_id))).channels
    assert (listed.signal, listed.samples) == ("ax", 0)
    for selector in ({"run_id": bench.run_id}, {"capture_session_id": bench.capture_session_id}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(reads.QueryTelemetry(QueryTelemetryRequest(**selector))))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_channel_of_nobody_and_one_of_others_look_the_same(bench: Any, rig: Any) -> None:
    await store(bench, "ax", [[1.0]])
    reads = bench.lab.outsider.at(rig.telemetry_channel).stub(TelemetryServiceStub)
    details = []
    for channel in (bench.channel("ax"), bench.channel("never")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reads.GetSeries(GetSeriesRequest(channels=[channel]))
        details.append((caught.value.code(), caught.value.details()))
    assert details == [(grpc.StatusCode.NOT_FOUND, "channel not found")] * 2


async def test_live_follows_history_without_a_seam_and_resumes(bench: Any) -> None:
    request = StreamTelemetryRequest(channels=[bench.channel("ax")], view="RAW", start_at=at(bench.now_ns))
    seen: list[float] = []

    async def follow(request: StreamTelemetryRequest, until: int) -> str:
        token = ""
        async for response in bench.reads.StreamTelemetry(request, timeout=30):
            seen.extend(response.chunk.values)
            token = response.resume_token or token
            if len(seen) >= until and token:
                return token
        raise AssertionError("the stream ended")

    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [1.0, 2.0])]))
        await device.acked(1)
        following = asyncio.create_task(follow(request, 40))
        for seq in range(2, 40):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq * SECOND, [seq + 1.0])]))
        token = await following
        await device.acked(39)
        for seq in range(40, 50):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq * SECOND, [seq + 1.0])]))
        request.ClearField("start_at")
        request.resume_token = token
        await follow(request, 50)
    assert seen == [float(i) for i in range(1, 51)]


async def test_a_resume_token_is_good_only_for_its_selection(bench: Any) -> None:
    await store(bench, "ax", [[1.0]])
    first = await anext(aiter(bench.reads.StreamTelemetry(StreamTelemetryRequest(channels=[bench.channel("ax")]))))
    assert first.WhichOneof("result") == "heartbeat"
    other = StreamTelemetryRequest(capture_session_id=bench.capture_session_id, resume_token=first.resume_token)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(bench.reads.StreamTelemetry(other)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_nothing_named_is_a_clear_error(bench: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.reads.GetLatest(GetLatestRequest())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "channels" in caught.value.details()


async def test_of_two_series_of_one_batch_the_later_is_shown(bench: Any) -> None:
    batch = [regular(1, bench.now_ns, [float(number)]) for number in range(5)]
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=batch))
        await device.acked(1)
    assert await bench.stored("ax") == [(bench.now_ns, 4.0)]
