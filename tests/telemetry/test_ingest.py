from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from tests.factory import make_sensor
from tests.telemetry.device import opened, regular


def reason(error: grpc.aio.AioRpcError) -> str:
    info = ErrorInfo()
    for detail in rpc_status.from_call(error).details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    return info.reason


async def test_what_was_acknowledged_is_read_back(bench: Any) -> None:
    values = [0.5, -1.25, 3e300]
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, answer):
        assert answer.epoch == 1
        assert answer.granted_durability == pb.Open.COMMITTED
        assert [channel.capture_session_id for channel in answer.channels] == [bench.capture_session_id]
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, values)]))
        await device.acked(1)
        expected = [(bench.now_ns + i * 1_000_000, value) for i, value in enumerate(values)]
        assert await bench.stored("ax") == expected
        finished = await device.finish(1)
    assert not finished.missing
    assert finished.totals.committed == 3


async def test_a_resent_batch_is_acknowledged_and_stored_once(bench: Any) -> None:
    batch = pb.Batch(seq=1, series=[regular(1, bench.now_ns, [1.0, 2.0])])
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, answer):
        await device.send(batch=batch)
        await device.acked(1)
    async with opened(bench.address, bench.token, bench.bind("ax"), epoch=answer.epoch) as (device, again):
        assert [(r.first, r.last) for r in again.cursor] == [(1, 1)]
        await device.send(batch=batch)
        ack = await device.acked(1)
        assert (ack.totals.committed, ack.totals.deduplicated) == (0, 2)
    assert len(await bench.stored("ax")) == 2


async def test_a_gap_is_kept_open_and_reported(bench: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        for seq in (3, 1):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq, [float(seq)])]))
        finished = await device.finish(4)
    assert finished.committed_through == 1
    assert [(gap.first, gap.last) for gap in finished.missing] == [(2, 2), (4, 4)]


async def test_bad_series_are_rejected_one_by_one_and_kept(bench: Any) -> None:
    good, empty = regular(1, bench.now_ns, [1.0]), pb.Series(alias=1, regular=pb.Regular(start_ns=1))
    future = regular(1, bench.now_ns + 2 * 86_400 * 10**9, [1.0])
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=[good, regular(9, bench.now_ns, [1.0]), empty, future]))
        rejects = [await device.expect("reject") for _ in range(3)]
        ack = await device.acked(1)
        assert [reject.reason for reject in rejects] == ["UNKNOWN_ALIAS", "MALFORMED_SERIES", "TIME_OUT_OF_RANGE"]
        assert all(reject.quarantine_id and reject.permanent for reject in rejects)
        assert ack.totals.quarantined == 2
        await device.send(batch=pb.Batch(seq=1, series=[good, regular(9, bench.now_ns, [1.0]), empty, future]))
        again = [await device.expect("reject") for _ in range(3)]
        assert sorted(reject.quarantine_id for reject in again) == sorted(reject.quarantine_id for reject in rejects)
    assert len(await bench.stored("ax")) == 1


async def test_a_reused_number_with_other_content_is_refused(bench: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [1.0])]))
        await device.acked(1)
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [2.0])]))
        reject = await device.expect("reject")
        assert (reject.reason, reject.seq, reject.HasField("alias")) == ("EPOCH_REUSED", 1, False)
    assert await bench.stored("ax") == [(bench.now_ns, 1.0)]


@pytest.mark.parametrize("crc", [0xE3069283, None])
async def test_content_is_checked_where_the_device_says_its_crc(bench: Any, crc: int | None) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, crc32c=crc, series=[regular(1, bench.now_ns, [1.0])]))
        if crc is None:
            await device.acked(1)
        else:
            assert (await device.expect("reject")).reason == "CRC_MISMATCH"


async def test_a_newer_stream_of_the_lane_ends_the_older(bench: Any) -> None:
    async with (
        opened(bench.address, bench.token, bench.bind("ax")) as (older, answer),
        opened(bench.address, bench.token, bench.bind("ax"), epoch=answer.epoch) as (newer, _),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await older.next()
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert reason(caught.value) == "SUPERSEDED"
        await newer.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [1.0])]))
        await newer.acked(1)


async def test_two_tenants_with_one_producer_name_never_meet(bench: Any, rig: Any) -> None:
    other = await make_sensor(bench.lab)
    async with (
        opened(bench.address, bench.token, bench.bind("ax")) as (first, _),
        opened(bench.address, other.token, bench.bind("ax")) as (second, answer),
    ):
        assert answer.epoch == 1
        for device, value in ((first, 1.0), (second, 2.0)):
            await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [value])]))
            await device.acked(1)
    assert await bench.stored("ax") == [(bench.now_ns, 1.0)]


async def test_an_epoch_that_was_never_given_out_is_refused(bench: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with opened(bench.address, bench.token, bench.bind("ax"), epoch=7):
            pass
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(caught.value) == "UNKNOWN_EPOCH"


async def test_a_batch_before_open_ends_the_stream(bench: Any) -> None:
    async with opened(bench.address, bench.token, []) as (device, _):
        await device.send(open=pb.Open(producer="imu"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await device.next():
                pass
    assert reason(caught.value) == "OPEN_EXPECTED"


async def test_integers_and_doubles_do_not_mix_on_a_channel(bench: Any) -> None:
    integers = pb.Series(
        alias=1,
        regular=pb.Regular(start_ns=bench.now_ns, period_ns=1),
        integers=pb.Integers(values=[-(2**63), 2**63 - 1]),
    )
    async with opened(bench.address, bench.token, bench.bind("count")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=[integers]))
        await device.acked(1)
        await device.send(batch=pb.Batch(seq=2, series=[regular(1, bench.now_ns, [1.0])]))
        assert (await device.expect("reject")).reason == "WRONG_VALUE_TYPE"
    assert [value for _, value in await bench.stored("count")] == [-(2**63), 2**63 - 1]


async def test_a_monotonic_clock_is_placed_by_its_time_of_sending(bench: Any) -> None:
    second = 10**9
    async with opened(bench.address, bench.token, bench.bind("ax"), clock=pb.Clock(kind="MONOTONIC")) as (device, _):
        series = [regular(1, 5 * second, [1.0])]
        await device.send(batch=pb.Batch(seq=1, series=series))
        assert (await device.expect("reject")).reason == "CLOCK_ANCHOR_MISSING"
        await device.send(batch=pb.Batch(seq=2, device_sent_ns=7 * second, series=series))
        await device.acked(2)
    ((time_ns, _),) = await bench.stored("ax")
    assert 0 <= time_ns + 2 * second - bench.now_ns < 60 * second
