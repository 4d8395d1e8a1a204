"""Whatever one device sends, the others go on, and what was acknowledged is stored."""

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.telemetry_ingest_service_pb2 import AppendTelemetryRequest, GetIngestCursorRequest
from rigmesh.v1.telemetry_ingest_service_pb2_grpc import TelemetryIngestServiceStub
from services.telemetry.ingest.writer import is_passing
from tests.factory import events_of, make_sensor, rows
from tests.refusals import refused
from tests.telemetry.device import opened, regular

MAX_SEQ = 2**63 - 2


async def works(bench: Any) -> None:
    """Another device still gets its acknowledgement."""
    other = await make_sensor(bench.lab)
    async with opened(bench.address, other.token, bench.bind("ax")) as (device, _):
        for seq in (1, 2):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq, [1.0])]))
            await device.acked(seq)


any_int64 = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 2**62, 1_790_000_000 * 10**9]) | st.integers(
    -(2**63), 2**63 - 1
)
times = st.one_of(
    st.builds(lambda start, period: {"regular": pb.Regular(start_ns=start, period_ns=period)}, any_int64, any_int64),
    st.builds(
        lambda start, steps: {"irregular": pb.Irregular(start_ns=start, delta_ns=steps)},
        any_int64,
        st.lists(any_int64, max_size=4),
    ),
    st.just({}),
)
values = st.one_of(
    st.builds(lambda v: {"doubles": pb.Doubles(values=v)}, st.lists(st.floats(), max_size=4)),
    st.builds(lambda v: {"integers": pb.Integers(values=v)}, st.lists(any_int64, max_size=4)),
    st.just({}),
)
series = st.builds(lambda alias, at, v: pb.Series(alias=alias, **at, **v), st.integers(0, 3), times, values)
batches = st.builds(
    lambda sent, crc, of: pb.Batch(device_sent_ns=sent, crc32c=crc, series=of),
    st.none() | any_int64,
    st.none() | st.integers(0, 2**32 - 1),
    st.lists(series, max_size=4),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["WALL", "MONOTONIC"]), st.lists(batches, min_size=1, max_size=4))
async def test_any_batch_gets_a_verdict_and_the_stream_goes_on(bench: Any, kind: str, frames: list[pb.Batch]) -> None:
    clock = pb.Clock(kind=kind)
    async with opened(bench.address, bench.token, bench.bind("ax", "ay"), clock=clock, producer="fuzz") as (device, _):
        for seq, frame in enumerate(frames, 1):
            frame.seq = seq
            await device.send(batch=frame)
        finished = await device.finish(len(frames))
    assert not finished.missing
    sent = sum(len(one.doubles.values) + len(one.integers.values) for frame in frames for one in frame.series)
    assert finished.totals.committed + finished.totals.quarantined == sent


@pytest.mark.parametrize("seq", [0, MAX_SEQ + 1, 2**64 - 1])
async def test_a_number_out_of_range_ends_its_stream_only(bench: Any, rig: Any, seq: int) -> None:
    batch = pb.Batch(seq=seq, series=[regular(1, bench.now_ns, [1.0])])
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=batch)
        with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
            await device.next()
    ingest = TelemetryIngestServiceStub(rig.telemetry_channel)
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
        await ingest.AppendTelemetry(
            AppendTelemetryRequest(upload_id="night", channels=bench.bind("ax"), batch=batch),
            metadata=(("authorization", f"Bearer {bench.token}"),),
        )
    await works(bench)


async def test_the_largest_number_is_stored(bench: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=MAX_SEQ, series=[regular(1, bench.now_ns, [1.0])]))
        ack = await device.expect("ack")
    assert [(one.first, one.last) for one in ack.ranges] == [(MAX_SEQ, MAX_SEQ)]
    await works(bench)


async def test_a_device_that_restarts_its_numbers_loses_nothing_silently(bench: Any, rig: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, answer):
        for seq in range(1, 151):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq, [1.0])]))
        await device.finish(150)
    async with opened(bench.address, bench.token, bench.bind("ax"), epoch=answer.epoch) as (device, _):
        for seq in range(1, 101):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq, [2.0])]))
        finished = await device.finish(100)
    assert (finished.totals.deduplicated, finished.totals.quarantined) == (0, 100)
    kept = await rows(
        rig,
        "SELECT lane_id, count(*) AS n FROM quarantine JOIN ingest_lanes USING (lane_id) "
        "WHERE scope_id = %s AND reason = 'EPOCH_REUSED' GROUP BY lane_id",
        bench.sensor_id,
    )
    assert [row["n"] for row in kept] == [100]
    assert [event["type"] for event in await events_of(rig, str(kept[0]["lane_id"]))] == ["telemetry.epoch_reused"]


async def test_an_upload_and_a_stream_of_one_name_do_not_meet(bench: Any, rig: Any) -> None:
    ingest = TelemetryIngestServiceStub(rig.telemetry_channel)
    credential = (("authorization", f"Bearer {bench.token}"),)
    batch = pb.Batch(seq=1, series=[regular(1, bench.now_ns, [1.0])])
    await ingest.AppendTelemetry(
        AppendTelemetryRequest(upload_id="imu", channels=bench.bind("ax"), batch=batch), metadata=credential
    )
    async with opened(bench.address, bench.token, bench.bind("ax"), producer="imu") as (device, answer):
        assert answer.epoch == 1
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns + 1, [2.0])]))
        await device.acked(1)
    assert [value for _, value in await bench.stored("ax")] == [1.0, 2.0]
    for lane in ({"producer": "imu"}, {"upload_id": "imu"}):
        cursor = await ingest.GetIngestCursor(GetIngestCursorRequest(**lane), metadata=credential)
        assert [(one.first, one.last) for one in cursor.ranges] == [(1, 1)]


async def test_too_many_gaps_are_told_to_uploads_too(bench: Any, rig: Any) -> None:
    ingest = TelemetryIngestServiceStub(rig.telemetry_channel)

    async def append(seq: int) -> None:
        batch = pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq, [1.0])])
        await ingest.AppendTelemetry(
            AppendTelemetryRequest(upload_id="holes", channels=bench.bind("ax"), batch=batch),
            metadata=(("authorization", f"Bearer {bench.token}"),),
        )

    async with opened(bench.address, bench.token, bench.bind("ax"), producer="holes") as (device, _):
        for seq in range(2, 2 * 256 + 3, 2):
            await device.send(batch=pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq, [1.0])]))
        with refused("FAILED_PRECONDITION", "TOO_MANY_GAPS"):
            while await device.next():
                pass
    for seq in range(2, 2 * 256 + 1, 2):
        await append(seq)
    with refused("FAILED_PRECONDITION", "TOO_MANY_GAPS"):
        await append(2 * 256 + 2)
    await works(bench)


async def test_too_many_series_are_one_reject(bench: Any) -> None:
    empty = [pb.Series(alias=1)] * 1025
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, answer):
        assert answer.limits.max_batch_series == 1024
        await device.send(batch=pb.Batch(seq=1, series=empty))
        assert (await device.expect("reject")).reason == "TOO_MANY_SERIES"
        await device.acked(1)


async def test_bad_series_of_one_alias_are_kept_one_by_one(bench: Any, rig: Any) -> None:
    bad = [pb.Series(alias=9, doubles=pb.Doubles(values=[float(i)])) for i in range(3)]
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=bad))
        ids = {(await device.expect("reject")).quarantine_id for _ in bad}
    kept = await rows(
        rig, "SELECT payload FROM quarantine WHERE quarantine_id = ANY(%s::uuid[]) ORDER BY part", list(ids)
    )
    assert [pb.Series.FromString(row["payload"]) for row in kept] == bad


async def test_one_series_over_years_is_refused(bench: Any) -> None:
    wide = pb.Series(
        alias=1, irregular=pb.Irregular(start_ns=0, delta_ns=[0, bench.now_ns]), doubles=pb.Doubles(values=[1.0, 2.0])
    )
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, series=[wide]))
        assert (await device.expect("reject")).reason == "TIME_SPAN_TOO_WIDE"


async def test_a_refused_batch_settles_no_value_type(bench: Any) -> None:
    integers = pb.Series(alias=1, regular=pb.Regular(start_ns=bench.now_ns), integers=pb.Integers(values=[1]))
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        await device.send(batch=pb.Batch(seq=1, crc32c=1, series=[integers]))
        assert (await device.expect("reject")).reason == "CRC_MISMATCH"
        await device.acked(1)
        await device.send(batch=pb.Batch(seq=2, series=[regular(1, bench.now_ns, [1.5])]))
        await device.acked(2)
    assert await bench.stored("ax") == [(bench.now_ns, 1.5)]


async def test_series_of_a_refused_binding_keep_its_names(bench: Any, rig: Any) -> None:
    foreign = [pb.ChannelBinding(alias=4, sensor_id=bench.run_id, signal="lost", unit="g")]
    async with opened(bench.address, bench.token, foreign) as (device, _):
        await device.expect("reject")
        await device.send(batch=pb.Batch(seq=1, series=[regular(4, bench.now_ns, [1.0])]))
        reject = await device.expect("reject")
    (row,) = await rows(
        rig, "SELECT sensor_id::text, signal, unit FROM quarantine WHERE quarantine_id = %s", reject.quarantine_id
    )
    assert row == {"sensor_id": bench.run_id, "signal": "lost", "unit": "g"}


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (psycopg.OperationalError("the connection is lost"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.NumericValueOutOfRange(), False),
        (psycopg.errors.NotNullViolation(), False),
        (psycopg.errors.OutOfMemory(), False),
        (ValueError("ours"), False),
    ],
)
def test_only_faults_that_pass_are_waited_for(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing
