"""Batches with numbers at the edge of what fits: each gets an answer, and others are served on."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from uuid_utils import uuid7

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.telemetry_ingest_service_pb2 import AppendTelemetryRequest, TelemetryIngestRequest
from rigmesh_client import Connection, connect
from tests.conftest import Rig
from tests.e2e.conftest import Recording
from tests.telemetry.device import opened

LOW, HIGH = -(2**63), 2**63 - 1
ANSWER_S = 5.0
REFUSED = {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}


@pytest.fixture
async def device(edge: str, recording: Recording) -> AsyncIterator[Connection]:
    async with connect(edge, recording.token) as connection:
        yield connection


def batch(seq: int = 1, start_ns: int | None = None, **fields: int) -> pb.Batch:
    start_ns = time.time_ns() if start_ns is None else start_ns
    series = pb.Series(alias=1, regular=pb.Regular(start_ns=start_ns, period_ns=1), doubles=pb.Doubles(values=[1, 2]))
    return pb.Batch(seq=seq, series=[series], **fields)


async def append(device: Connection, content: pb.Batch, kind: pb.Clock.Kind.ValueType = pb.Clock.WALL) -> str:
    """OK or the code of the refusal."""
    request = AppendTelemetryRequest(
        upload_id=str(uuid7()),
        clock=pb.Clock(kind=kind),
        channels=[pb.ChannelBinding(alias=1, signal="x")],
        batch=content,
    )
    try:
        await device.ingest.AppendTelemetry(request, timeout=ANSWER_S)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def assert_others_are_served(device: Connection) -> None:
    """Lanes are spread over several writers: of so many, each has one."""
    assert await asyncio.gather(*(append(device, batch()) for _ in range(8))) == ["OK"] * 8


@pytest.mark.parametrize("seq", [0, HIGH, HIGH + 1, 2**64 - 1])
async def test_a_number_out_of_range_is_refused(device: Connection, seq: int) -> None:
    assert await append(device, batch(seq)) in REFUSED
    await assert_others_are_served(device)


@pytest.mark.parametrize("start_ns", [LOW, -1, 0, HIGH - 1, HIGH])
async def test_a_time_at_the_edge_is_answered(device: Connection, start_ns: int) -> None:
    assert await append(device, batch(start_ns=start_ns)) == "OK"
    await assert_others_are_served(device)


@pytest.mark.parametrize("sent_ns", [LOW, -1, 0, HIGH])
@pytest.mark.parametrize("start_ns", [LOW, 0, HIGH])
async def test_a_monotonic_clock_at_the_edge_is_answered(device: Connection, sent_ns: int, start_ns: int) -> None:
    content = batch(start_ns=start_ns, device_sent_ns=sent_ns)
    assert await append(device, content, pb.Clock.MONOTONIC) in {"OK", *REFUSED}
    await assert_others_are_served(device)


@pytest.mark.parametrize(
    "frame",
    [
        TelemetryIngestRequest(batch=batch(0)),
        TelemetryIngestRequest(batch=batch(HIGH)),
        TelemetryIngestRequest(batch=batch(2**64 - 1)),
        TelemetryIngestRequest(finish=pb.Finish(last_seq=2**64 - 1)),
        TelemetryIngestRequest(loss=pb.Loss(alias=1, count=HIGH, from_ns=LOW, to_ns=HIGH)),
        TelemetryIngestRequest(loss=pb.Loss(alias=1, count=0, from_ns=1, to_ns=0)),
        TelemetryIngestRequest(loss=pb.Loss(alias=1, count=1, reason="a\0b")),
        TelemetryIngestRequest(loss=pb.Loss(alias=9, count=1)),
        TelemetryIngestRequest(bind=pb.Bind(channels=[pb.ChannelBinding(alias=2**32 - 1, signal="y", period_ns=HIGH)])),
        TelemetryIngestRequest(open=pb.Open(producer="imu")),
    ],
    ids=lambda frame: str(frame.WhichOneof("frame")),
)
async def test_a_frame_at_the_edge_is_answered(
    device: Connection, rig: Rig, recording: Recording, frame: TelemetryIngestRequest
) -> None:
    """With a frame, or with the end of the stream and a code that blames the caller."""
    async with opened(rig.envoy, recording.token, [pb.ChannelBinding(alias=1, signal="x")]) as (stream, _):
        await stream.call.write(frame)
        try:
            await stream.send(flush=pb.Flush())
            async with asyncio.timeout(ANSWER_S):
                await stream.next()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            assert (await stream.call.code()).name in REFUSED
    await assert_others_are_served(device)
