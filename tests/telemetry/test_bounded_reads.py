"""However much is asked for, answers keep to their limits of memory and size, and end in order."""

import asyncio
import sys
import tracemalloc
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.project_service_pb2 import RemoveMemberRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from rigmesh.v1.telemetry_service_pb2 import (
    GetLatestRequest,
    GetSeriesRequest,
    QueryTelemetryRequest,
    StreamTelemetryRequest,
)
from services.errors import NotFound, Unavailable
from services.telemetry.reads import query, stored, watch
from services.telemetry.reads.live import snapshot
from services.telemetry.reads.selection import select_channels
from services.telemetry.reads.stored import Range, read_blocks
from tests.factory import make_sensor, make_session, rows
from tests.telemetry.device import opened, regular
from tests.telemetry.inside import reading

MS, SECOND = 10**6, 10**9


async def store_beside(bench: Any, signals: list[str], n: int, batches: int = 1) -> None:
    """Channels with samples at the same times, in blocks of `n`; the value tells channel and sample."""
    async with opened(bench.address, bench.token, bench.bind(*signals)) as (device, _):
        seq = 0
        for batch in range(batches):
            for alias, _signal in enumerate(signals, 1):
                seq += 1
                values = (np.arange(batch * n, (batch + 1) * n) + alias * 1e6).tolist()
                start_ns = bench.now_ns + batch * n * MS
                await device.send(batch=pb.Batch(seq=seq, series=[regular(alias, start_ns, values)]))
            await device.acked(seq)


async def test_many_long_blocks_beside_each_other_take_little_memory(bench: Any, rig: Any) -> None:
    signals = [f"s{number}" for number in range(48)]
    await store_beside(bench, signals, 65_536)
    request = QueryTelemetryRequest(channels=[bench.channel(signal) for signal in signals], view="RAW")
    count, last_ns = 0, 0
    async with reading(rig, bench) as (service, call, _):
        tracemalloc.start()
        try:
            async for response in service.QueryTelemetry(request, call):
                count += len(response.chunk.time_ns)
                assert response.HasField("end") or response.chunk.time_ns[0] >= last_ns
                last_ns = response.chunk.time_ns[0] if response.HasField("chunk") else last_ns
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert count == 48 * 65_536
    # Half of what a call may take: the driver's and protobuf's own memory is not seen here.
    assert peak < 32 * 1024 * 1024


@pytest.mark.parametrize("window_samples", [100, 1000, 10_000])
async def test_windows_lose_and_double_nothing(
    bench: Any, rig: Any, monkeypatch: pytest.MonkeyPatch, window_samples: int
) -> None:
    monkeypatch.setattr(query, "WINDOW_SAMPLES", window_samples)
    await store_beside(bench, ["a", "b", "c"], 500, batches=3)
    # One instant that holds more than a window, and a long silence.
    async with opened(bench.address, bench.token, bench.bind("b"), producer="stuck") as (device, _):
        late_ns = bench.now_ns + 3600 * SECOND
        same = pb.Series(
            alias=1, irregular=pb.Irregular(start_ns=late_ns, delta_ns=[0] * 300), doubles=pb.Doubles(values=[7] * 300)
        )
        await device.send(batch=pb.Batch(seq=1, series=[same]))
        await device.acked(1)
    request = QueryTelemetryRequest(channels=[bench.channel(signal) for signal in "cab"], view="RAW")
    seen: dict[str, list[float]] = {}
    firsts = []
    async with reading(rig, bench) as (service, call, _):
        async for response in service.QueryTelemetry(request, call):
            seen.setdefault(response.chunk.channel[37:], []).extend(response.chunk.values)
            firsts += list(response.chunk.time_ns[:1])
    for alias, signal in enumerate("abc", 1):
        expected = [alias * 1e6 + number for number in range(1500)] + [7.0] * (300 if signal == "b" else 0)
        assert seen[signal] == expected
    assert firsts == sorted(firsts)


async def test_a_block_with_a_wild_time_does_not_make_reads_look_at_others(bench: Any, rig: Any) -> None:
    hour = 3600 * SECOND
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        wild = pb.Series(
            alias=1,
            irregular=pb.Irregular(start_ns=bench.now_ns, delta_ns=[0, hour]),
            doubles=pb.Doubles(values=[1.0, 2.0]),
        )
        await device.send(batch=pb.Batch(seq=1, series=[wild]))
        for seq in range(2, 6):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq * SECOND, [0.0])]))
        await device.acked(5)
    async with reading(rig, bench) as (_, call, _), snapshot(call.pools.scan) as db:
        request = QueryTelemetryRequest(channels=[bench.channel("ax")])
        (channel,) = await select_channels(db, call.principal.user_id, request)
        wanted = Range(bench.now_ns + hour - SECOND, bench.now_ns + hour + SECOND)
        assert [block.seq async for block in read_blocks(db, channel, wanted)] == [1]


async def test_portions_lose_no_block(bench: Any, rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small blocks, then long ones, of which few come at once."""
    monkeypatch.setattr(stored, "PORTION_SAMPLES", 6000)
    sizes = [1] * 150 + [3000] * 11 + [1] * 70
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        for seq, n in enumerate(sizes, 1):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq * 4 * SECOND, [0.0] * n)]))
        await device.acked(len(sizes))
    async with reading(rig, bench) as (_, call, _), snapshot(call.pools.scan) as db:
        request = QueryTelemetryRequest(channels=[bench.channel("ax")])
        (channel,) = await select_channels(db, call.principal.user_id, request)
        blocks = [block async for block in read_blocks(db, channel, Range())]
    assert [block.seq for block in blocks] == list(range(1, len(sizes) + 1))
    assert blocks[0].ahead == sum(sizes[1:65])
    assert blocks[-1].ahead is None


async def test_more_points_than_a_message_holds_are_refused(bench: Any) -> None:
    signals = [f"s{number}" for number in range(17)]
    async with opened(bench.address, bench.token, bench.bind(*signals)):
        pass
    channels = [bench.channel(signal) for signal in signals]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.reads.GetSeries(GetSeriesRequest(channels=channels, max_points=5000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "80000" in caught.value.details()
    assert len((await bench.reads.GetSeries(GetSeriesRequest(channels=channels))).series) == 17


async def test_a_channel_named_twice_is_refused(bench: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")):
        pass
    twice = [bench.channel("ax"), f"{bench.sensor_id.upper()}/ax"]
    for call in (
        anext(aiter(bench.reads.QueryTelemetry(QueryTelemetryRequest(channels=twice)))),
        bench.reads.GetLatest(GetLatestRequest(channels=twice)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stop_of_the_server_ends_an_answer_as_incomplete(
    bench: Any, rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "WINDOW_SAMPLES", 100)
    await store_beside(bench, ["ax"], 1000)
    start = Timestamp()
    start.FromNanoseconds(bench.now_ns)
    async with reading(rig, bench) as (service, call, stopping):
        for answer in (
            service.QueryTelemetry(QueryTelemetryRequest(channels=[bench.channel("ax")]), call),
            service.StreamTelemetry(StreamTelemetryRequest(channels=[bench.channel("ax")], start_at=start), call),
        ):
            stopping.clear()
            assert (await anext(answer)).HasField("chunk")
            stopping.set()
            with pytest.raises(Unavailable):
                await anext(answer)


async def test_a_member_who_leaves_sees_no_more_of_a_long_answer(
    bench: Any, rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "WINDOW_SAMPLES", 100)
    monkeypatch.setattr(watch, "RECHECK_S", 0.0)
    await store_beside(bench, ["ax"], 1000)
    async with reading(rig, bench) as (service, call, _):
        answer = service.QueryTelemetry(QueryTelemetryRequest(channels=[bench.channel("ax")]), call)
        assert (await anext(answer)).HasField("chunk")
        assert (await anext(answer)).HasField("chunk")
        await bench.lab.owner.stub(ProjectServiceStub).RemoveMember(
            RemoveMemberRequest(project_id=bench.lab.project_id, user_id=bench.lab.viewer.user_id)
        )
        with pytest.raises(NotFound):
            await anext(answer)


async def test_an_answer_that_is_left_closes_all_that_it_opened(
    bench: Any, rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to the garbage collector ends when its connection may be in other hands."""
    monkeypatch.setattr(query, "WINDOW_SAMPLES", 100)
    await store_beside(bench, ["ax"], 1000)
    start = Timestamp()
    start.FromNanoseconds(bench.now_ns)
    async with reading(rig, bench) as (service, call, _):
        hooks, left = sys.get_asyncgen_hooks(), list[Any]()
        sys.set_asyncgen_hooks(finalizer=left.append)
        try:
            for answer in (
                service.QueryTelemetry(QueryTelemetryRequest(channels=[bench.channel("ax")]), call),
                service.StreamTelemetry(StreamTelemetryRequest(channels=[bench.channel("ax")], start_at=start), call),
            ):
                await anext(answer)
                await answer.aclose()
        finally:
            sys.set_asyncgen_hooks(*hooks)
    assert not left


async def test_the_newest_sample_has_the_receipt_of_its_own_block(bench: Any, rig: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        for seq, offset_ns in enumerate((900, 100), 1):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + offset_ns, [float(seq)])]))
            await device.acked(seq)
    answer = await bench.reads.GetLatest(GetLatestRequest(channels=[bench.channel("ax")], view="RAW"))
    receipts = await rows(
        rig,
        """SELECT extract(epoch FROM received_at) * 1000000 AS us FROM sample_blocks JOIN channels USING (channel_id)
        WHERE sensor_id = %s ORDER BY seq""",
        bench.sensor_id,
    )
    newest = answer.samples[0].newest
    assert newest.number == 1.0
    assert newest.received_at.ToMicroseconds() == receipts[0]["us"]


async def test_a_live_reader_of_a_run_sees_sessions_and_channels_that_come_later(bench: Any) -> None:
    await store_beside(bench, ["ax"], 1)
    stream = bench.reads.StreamTelemetry(StreamTelemetryRequest(run_id=bench.run_id, view="RAW"), timeout=30)
    assert (await stream.read()).HasField("heartbeat")
    second = await make_session(bench.lab, bench.run_id)
    stranger = await make_sensor(bench.lab)
    async with opened(bench.address, stranger.token, bench.bind("ay")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [5.0])]))
        await device.acked(1)
    session_id = second.capture_session_id
    async with opened(bench.address, bench.token, bench.bind("new"), capture_session_id=session_id) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [6.0])]))
        await device.acked(1)
    async with asyncio.timeout(20):
        while not (response := await stream.read()).HasField("chunk"):
            pass
    assert (response.chunk.channel, list(response.chunk.values)) == (bench.channel("new"), [6.0])
    stream.cancel()
