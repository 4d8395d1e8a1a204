"""The client's stream against a real server: nothing is lost, doubled or silently refused."""

import asyncio
import contextlib
import time
import uuid
from typing import Any

import grpc
import numpy as np
import pytest

from rigmesh.v1.capture_service_pb2 import StopCaptureSessionRequest
from rigmesh.v1.capture_service_pb2_grpc import CaptureServiceStub
from rigmesh.v1.telemetry_ingest_service_pb2 import GetIngestCursorRequest
from rigmesh_client import Channel, Clock, NotConnected, Reject, SensorStream, StreamRefused, attempt, connect
from tests.factory import make_session, rows

START_NS = 1_700_000_000 * 10**9
MS = 1_000_000
BATCHES = 60
BATCH_SAMPLES = 500


def batch(number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values say where they belong."""
    return np.arange(number * BATCH_SAMPLES, (number + 1) * BATCH_SAMPLES, dtype=np.float64)


async def send(stream: SensorStream, number: int) -> None:
    await stream.send({"ax": batch(number)}, start_ns=START_NS + number * BATCH_SAMPLES * MS, period_ns=MS)


async def assert_all_stored(device: Any, batches: int) -> None:
    stored = await device.stored("ax")
    count = batches * BATCH_SAMPLES
    assert np.array_equal(stored.values, np.arange(count))
    assert np.array_equal(stored.time_ns, START_NS + np.arange(count) * MS)


async def test_what_is_sent_is_stored_in_the_session(device: Any) -> None:
    async with SensorStream(device.sensor, "imu", [Channel("ax", "g", MS), Channel("n")], checksum=True) as stream:
        await stream.send({"ax": [0.5, float("nan")], "n": [-(2**63), 2**63 - 1]}, times_ns=[START_NS, START_NS + 7])
    assert (stream.reject_count, stream.unacknowledged_batches, stream.reconnections) == (0, 0, 0)
    ax, n = await device.stored("ax"), await device.stored("n")
    assert (ax.unit, ax.capture_session_id, ax.time_ns.tolist()) == (
        "g",
        device.capture_session_id,
        [START_NS, START_NS + 7],
    )
    assert ax.values[0] == 0.5
    assert np.isnan(ax.values[1])
    assert n.values.dtype == np.int64
    assert n.values.tolist() == [-(2**63), 2**63 - 1]


async def test_flush_returns_when_all_is_committed(device: Any) -> None:
    async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
        for number in range(BATCHES):
            await send(stream, number)
        await stream.flush()
        assert stream.unacknowledged_batches == 0
        await assert_all_stored(device, BATCHES)
        cursor = await device.sensor.ingest.GetIngestCursor(GetIngestCursorRequest(producer="imu", epoch=stream.epoch))
        (durable,) = cursor.ranges
        assert durable.first == 1
        assert durable.last <= BATCHES, "sends that had to wait share a batch"


@pytest.mark.parametrize("cuts", [[2_000], [30_001, 77_777], [5_000, 5_000, 150_000]])
async def test_a_stream_that_is_cut_goes_on_where_it_was(device: Any, cuts: list[int]) -> None:
    device.proxy.cut_after = cuts
    async with asyncio.timeout(30):
        async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
            for number in range(BATCHES):
                await send(stream, number)
    assert device.proxy.connections > len(cuts)
    await assert_all_stored(device, BATCHES)


async def test_a_cut_between_two_sends_is_not_noticed_by_the_sender(device: Any) -> None:
    async with asyncio.timeout(30):
        async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
            await send(stream, 0)
            await stream.flush()
            device.proxy.cut()
            await send(stream, 1)
            await stream.flush()
            assert stream.reconnections >= 1
    await assert_all_stored(device, 2)


async def test_a_full_buffer_makes_the_sender_wait(device: Any) -> None:
    async with asyncio.timeout(30):
        async with SensorStream(device.sensor, "imu", [Channel("ax")], max_batches=2) as stream:
            for number in range(BATCHES):
                await send(stream, number)
                assert stream.unacknowledged_batches <= 2
    await assert_all_stored(device, BATCHES)


async def test_a_send_of_any_length_is_stored(device: Any) -> None:
    count = 200_000
    async with SensorStream(device.sensor, "imu", [Channel("ax"), Channel("ay")]) as stream:
        values = np.arange(count, dtype=np.float32)
        await stream.send({"ax": values, "ay": -values}, start_ns=START_NS, period_ns=MS)
    assert np.array_equal((await device.stored("ax")).values, values)
    assert np.array_equal((await device.stored("ay")).values, -values)


async def test_a_channel_bound_later_is_bound_again_after_a_cut(device: Any) -> None:
    async with asyncio.timeout(30):
        async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
            await send(stream, 0)
            stream.bind([Channel("temp", "K")])
            await stream.send({"temp": [293.0]}, start_ns=START_NS)
            await stream.flush()
            device.proxy.cut()
            await stream.send({"temp": [294.0]}, start_ns=START_NS + MS)
    assert stream.reject_count == 0
    assert (await device.stored("temp")).values.tolist() == [293.0, 294.0]


async def test_what_is_not_taken_is_told_and_does_not_stop_the_rest(device: Any) -> None:
    told: list[Reject] = []
    async with SensorStream(device.sensor, "imu", [Channel("ax"), Channel("n")], on_reject=told.append) as stream:
        await stream.send({"ax": [1.0], "n": [1]}, start_ns=START_NS)
        await stream.send({"ax": [2.0], "n": [2.0]}, start_ns=START_NS + MS)
    assert [(reject.alias, reject.reason) for reject in told] == [(2, "WRONG_VALUE_TYPE")]
    assert (stream.rejects, stream.reject_count) == (told, 1)
    assert (await device.stored("ax")).values.tolist() == [1.0, 2.0]
    assert (await device.stored("n")).values.tolist() == [1]


async def test_a_channel_of_no_sensor_is_refused(device: Any) -> None:
    absent = Channel("ax", sensor_id=str(uuid.uuid4()))
    stream = SensorStream(device.sensor, "imu", [Channel("ax"), absent])
    with pytest.raises(StreamRefused, match=rf"SENSOR_NOT_FOUND: channel {absent.name} \(alias 2\): ") as refused:
        async with stream:
            pass
    assert refused.value.reason == "SENSOR_NOT_FOUND"
    assert [(reject.alias, reject.reason) for reject in stream.rejects] == [(2, "SENSOR_NOT_FOUND")]


async def test_a_channel_of_no_sensor_that_is_bound_later_is_told(device: Any) -> None:
    absent = Channel("ax", sensor_id=str(uuid.uuid4()))
    async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
        stream.bind([absent])
        await stream.send({absent.name: [1.0], "ax": [2.0]}, start_ns=START_NS)
    assert {reject.reason for reject in stream.rejects} == {"SENSOR_NOT_FOUND", "UNKNOWN_ALIAS"}
    assert (await device.stored("ax")).values.tolist() == [2.0]


async def test_a_resumed_stream_stays_with_its_session(device: Any, lab: Any) -> None:
    """What was measured in one session is not put into the next one, which runs when the connection is back."""
    async with asyncio.timeout(30):
        async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
            await send(stream, 0)
            await stream.flush()
            device.proxy.cut()
            await lab.editor.stub(CaptureServiceStub).StopCaptureSession(
                StopCaptureSessionRequest(
                    run_id=device.run_id, capture_session_id=device.capture_session_id, outcome="SUCCEEDED"
                )
            )
            await make_session(lab, device.run_id)
            await send(stream, 1)
            await stream.flush()
            assert stream.reconnections >= 1
    await assert_all_stored(device, 2)


@pytest.mark.parametrize("unacknowledged", [0, 3])
async def test_a_server_that_was_restored_from_a_backup_gets_a_new_epoch(
    device: Any, rig: Any, unacknowledged: int
) -> None:
    """Nothing that the sender still has is dropped; numbers begin anew."""
    async with asyncio.timeout(30):
        async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
            for number in range(4):
                await send(stream, number)
                await stream.flush()
            device.proxy.cut()
            await rows(
                rig,
                "UPDATE ingest_lanes SET epoch = epoch + 1000 WHERE scope_id = %s RETURNING lane_id",
                device.sensor_id,
            )
            for number in range(4, 4 + unacknowledged):
                await send(stream, number)
            await stream.flush()
    assert stream.unacknowledged_batches == 0
    await assert_all_stored(device, 4 + unacknowledged)


async def test_a_server_that_has_gone_silent_is_asked_anew(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error of the network tells: the connection is open, and no Ack comes."""
    monkeypatch.setattr(attempt, "ACK_WITHIN_S", 1.0)
    async with asyncio.timeout(30):
        async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
            await send(stream, 0)
            await stream.flush()
            device.proxy.answers_pass.clear()
            await send(stream, 1)
            while not stream.reconnections:  # noqa: ASYNC110 the stream tells nobody
                await asyncio.sleep(0.01)
            device.proxy.answers_pass.set()
            await stream.flush()
    await assert_all_stored(device, 2)


async def test_an_idle_stream_is_left_alone(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "ACK_WITHIN_S", 0.2)
    async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
        for number in range(3):
            await send(stream, number)
            await stream.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.5)
        assert stream.reconnections == 0


async def test_times_of_a_monotonic_clock_are_placed_by_the_time_of_sending(device: Any) -> None:
    async with SensorStream(device.sensor, "imu", [Channel("ax")], clock=Clock.MONOTONIC, boot_id="b1") as stream:
        await stream.send({"ax": [1.0]}, start_ns=time.monotonic_ns())
    (time_ns,) = (await device.stored("ax")).time_ns
    assert abs(int(time_ns) - time.time_ns()) < 60 * 10**9


async def test_an_unknown_session_is_refused(device: Any) -> None:
    stream = SensorStream(device.sensor, "imu", [Channel("ax")], capture_session_id=str(uuid.uuid4()))
    with pytest.raises(StreamRefused, match="NOT_FOUND") as refused:
        async with stream:
            pass
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_a_wrong_token_is_refused(device: Any) -> None:
    async with connect(device.target, "rgms_wrong") as connection:
        with pytest.raises(StreamRefused) as refused:
            async with SensorStream(connection, "imu", [Channel("ax")]):
                pass
    assert refused.value.code == grpc.StatusCode.UNAUTHENTICATED


async def test_nobody_there_is_told_in_time(unused_tcp_port: int) -> None:
    async with connect(f"127.0.0.1:{unused_tcp_port}", "rgms_any") as connection:
        with pytest.raises(NotConnected, match="UNAVAILABLE"):
            async with SensorStream(connection, "imu", [Channel("ax")], open_timeout_s=0.5):
                pass


async def test_leaving_by_an_exception_does_not_wait(device: Any) -> None:
    class DeviceError(Exception):
        pass

    async def fail() -> None:
        async with SensorStream(device.sensor, "imu", [Channel("ax")]) as stream:
            device.proxy.cut()
            await send(stream, 0)
            raise DeviceError

    with pytest.raises(DeviceError):
        await fail()
