"""What was acknowledged survives; what was not is sent again and counted once."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.sensor_service_pb2 import RotateSensorTokenRequest
from rigmesh.v1.sensor_service_pb2_grpc import SensorServiceStub
from tests.telemetry.device import opened, regular

BATCHES = 400
RESTART_S = 30.0


def telemetry_pid(up_pid: int) -> int:
    """The process of the telemetry role that this `rigmesh up` started."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == up_pid and command.endswith(b"serve\0telemetry\0"):
            return int(folder.name)
    raise AssertionError("no telemetry process")


def batch(bench: Any, seq: int) -> pb.Batch:
    return pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq * 10**6, [seq + 0.25, seq + 0.5], 1000)])


async def test_kill_9_in_mid_stream_loses_nothing_and_doubles_nothing(bench: Any, rig: Any) -> None:
    acked = 0
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, answer):

        async def send() -> None:
            for seq in range(1, BATCHES + 1):
                await device.send(batch=batch(bench, seq))

        sending = asyncio.create_task(send())
        while acked < 50:
            acked = (await device.expect("ack")).committed_through
        os.kill(telemetry_pid(rig.pid), signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError):
            while (response := await device.next()) is not None:
                acked = max(acked, response.ack.committed_through)
        await asyncio.gather(sending, return_exceptions=True)
    await reopened(bench, answer.epoch, acked)
    samples = await bench.stored("ax")
    expected = [
        (bench.now_ns + seq * 10**6 + i * 1000, seq + 0.25 * (i + 1)) for seq in range(1, BATCHES + 1) for i in (0, 1)
    ]
    assert samples == expected


async def reopened(bench: Any, epoch: int, acked: int) -> None:
    """Opens again as soon as the server is back, and sends everything after the last acknowledgement."""
    async with asyncio.timeout(RESTART_S):
        while True:
            try:
                async with opened(bench.address, bench.token, bench.bind("ax"), epoch=epoch) as (device, answer):
                    assert answer.cursor[0].last >= acked
                    for seq in range(acked + 1, BATCHES + 1):
                        await device.send(batch=batch(bench, seq))
                    finished = await device.finish(BATCHES)
                assert not finished.missing
                return
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                await asyncio.sleep(0.05)


async def test_sigterm_drains_with_a_last_ack(bench: Any, rig: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, answer):
        await device.send(batch=batch(bench, 1))
        await device.acked(1)
        await device.send(batch=batch(bench, 2))
        await device.acked(2)
        os.kill(telemetry_pid(rig.pid), signal.SIGTERM)
        await device.expect("drain")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await device.next() is not None:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await reopened(bench, answer.epoch, 2)
    assert len(await bench.stored("ax")) == 2 * BATCHES


async def test_two_streams_of_one_lane_at_once_store_each_number_once(bench: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (_, answer):
        pass

    async def push() -> None:
        async with opened(bench.address, bench.token, bench.bind("ax"), epoch=answer.epoch) as (device, _):
            try:
                for seq in range(1, 101):
                    await device.send(batch=batch(bench, seq))
                await device.finish(100)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # grpc.aio reports a write after the end as INTERNAL at times, whatever ended the stream.
                assert await device.call.code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL)

    await asyncio.gather(*(push() for _ in range(4)))
    async with opened(bench.address, bench.token, bench.bind("ax"), epoch=answer.epoch) as (device, _):
        for seq in range(1, 101):
            await device.send(batch=batch(bench, seq))
        finished = await device.finish(100)
    assert not finished.missing
    assert len(await bench.stored("ax")) == 200


async def test_a_rotated_token_ends_its_stream(bench: Any) -> None:
    sensors = bench.lab.editor.stub(SensorServiceStub)
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        request = RotateSensorTokenRequest(sensor_id=bench.sensor_id)
        request.overlap.FromSeconds(0)
        await sensors.RotateSensorToken(request)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await device.next()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
