"""Turns a Batch of the wire into a Pending: checks, places on the time axis, encodes. Pure: it is told the time."""

from collections.abc import Mapping
from dataclasses import dataclass

from rigmesh.v1.error_reason_pb2 import (
    CLOCK_ANCHOR_MISSING,
    CRC_MISMATCH,
    TIME_OUT_OF_RANGE,
    TIME_SPAN_TOO_WIDE,
    TOO_MANY_SAMPLES,
    UNKNOWN_ALIAS,
    ErrorReason,
)
from rigmesh.v1.telemetry_ingest_pb2 import Batch, Series
from services.telemetry.batches import Accepted, Channel, Pending, refuse_batch, refuse_series
from services.telemetry.blocks import Origin, encode
from services.telemetry.series import BadSeriesError, Samples, batch_samples, extend_crc, malformed_crc, parse

MAX_BATCH_SAMPLES = 65_536
MAX_CHUNKS = 16
CHUNK_US = 7 * 86_400 * 10**6
FUTURE_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Source:
    """The lane and clock that a stream's batches come from. `holder` is None for uploads."""

    lane_id: int
    holder: str | None
    clock_id: int
    is_monotonic: bool


def accept(batch: Batch, source: Source, channels: Mapping[int, Channel], received_ns: int) -> Pending:
    """All that can be said of a batch before its commit. What is wrong with it is in `refusals`, never raised."""
    samples = batch_samples(batch)
    pending = Pending(batch, source.lane_id, source.holder, 0, source.clock_id, received_ns, batch.ByteSize(), samples)
    if samples > MAX_BATCH_SAMPLES:
        pending.crc = malformed_crc(0, batch)
        _refuse_all(pending, TOO_MANY_SAMPLES, f"{samples} samples in a batch, at most {MAX_BATCH_SAMPLES}")
        return pending
    if source.is_monotonic and not batch.HasField("device_sent_ns"):
        pending.crc = malformed_crc(0, batch)
        _refuse_all(pending, CLOCK_ANCHOR_MISSING, "a monotonic clock needs device_sent_ns")
        return pending
    offset_ns = received_ns - batch.device_sent_ns if source.is_monotonic else 0
    for series in batch.series:
        _take(pending, series, channels.get(series.alias), offset_ns)
    _check_whole(pending)
    return pending


def value_type(series: Series) -> str:
    """The type that a series gives to its channel, as in `channels.value_type`."""
    return "INTEGER" if series.WhichOneof("values") == "integers" else "DOUBLE"


def _take(pending: Pending, series: Series, channel: Channel | None, offset_ns: int) -> None:
    try:
        samples = parse(series)
    except BadSeriesError as error:
        pending.crc = malformed_crc(pending.crc, series)
        pending.refusals.append(refuse_series(series, error.reason, error.message, channel))
        return
    pending.crc = extend_crc(pending.crc, series.alias, samples)
    try:
        pending.accepted.append(_encoded(pending, series, samples, channel, offset_ns))
    except BadSeriesError as error:
        pending.refusals.append(refuse_series(series, error.reason, error.message, channel))


def _encoded(pending: Pending, series: Series, samples: Samples, channel: Channel | None, offset_ns: int) -> Accepted:
    if channel is None:
        raise BadSeriesError(UNKNOWN_ALIAS, f"alias {series.alias} is not bound")
    first, last = int(samples.time_ns.min()) + offset_ns, int(samples.time_ns.max()) + offset_ns
    if first < 0 or last > pending.received_ns + FUTURE_NS:
        raise BadSeriesError(TIME_OUT_OF_RANGE, "a time lies before 1970 or more than a day in the future")
    origin = Origin(
        channel_id=channel.channel_id,
        capture_session_id=channel.capture_session_id,
        lane_id=pending.lane_id,
        seq=pending.seq,
        clock_id=pending.clock_id,
        offset_ns=offset_ns,
        received_ns=pending.received_ns,
    )
    return Accepted(encode(origin, samples), series, channel)


def _check_whole(pending: Pending) -> None:
    batch = pending.batch
    if batch.HasField("crc32c") and batch.crc32c != pending.crc:
        _refuse_all(pending, CRC_MISMATCH, "crc32c does not match the content")
    elif len({accepted.block.placed_us // CHUNK_US for accepted in pending.accepted}) > MAX_CHUNKS:
        _refuse_all(pending, TIME_SPAN_TOO_WIDE, f"the batch spans more than {MAX_CHUNKS} chunks of 7 days")


def _refuse_all(pending: Pending, reason: ErrorReason.ValueType, message: str) -> None:
    pending.accepted.clear()
    pending.refusals[:] = [refuse_batch(pending.batch, reason, message)]
