"""Turns a Batch of the wire into a Pending, and the batches of a commit into rows. Pure: it is told the time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rigmesh.v1.error_reason_pb2 import (
    CLOCK_ANCHOR_MISSING,
    CRC_MISMATCH,
    TIME_OUT_OF_RANGE,
    TIME_SPAN_TOO_WIDE,
    TOO_MANY_SAMPLES,
    TOO_MANY_SERIES,
    UNKNOWN_ALIAS,
    ErrorReason,
)
from rigmesh.v1.telemetry_ingest_pb2 import Batch, Series
from services.telemetry.blocks import Block, Input, Origin, encode
from services.telemetry.ingest.batches import Accepted, Channel, Pending, Taken, refuse_series
from services.telemetry.series import (
    SAFE_SUM,
    BadSeriesError,
    Samples,
    batch_samples,
    extend_crc,
    malformed_crc,
    parse,
)

MAX_BATCH_SERIES = 1024
MAX_BATCH_SAMPLES = 65_536
PORTION_SAMPLES = 16_384
SAMPLE_BYTES, SERIES_BYTES = 12, 64
MAX_CHUNKS = 16
CHUNK_US = 7 * 86_400 * 10**6
FUTURE_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Source:
    """The lane and clock that a stream's batches come from. `holder` is None for uploads."""

    lane_id: int
    holder: int | None
    clock_id: int
    is_monotonic: bool


def accept(
    batch: Batch, source: Source, channels: Mapping[int, Channel], refused: Mapping[int, Channel], received_ns: int
) -> Pending:
    """All that can be said of a batch before its commit. What is wrong with it is in `refusals`, never raised.

    `refused` holds what refused bindings named, for the record of series that come all the same.
    """
    samples = batch_samples(batch)
    offset_ns = received_ns - batch.device_sent_ns if source.is_monotonic else 0
    # Near enough for the buffers, and a tenth of the cost of asking the message.
    size = SAMPLE_BYTES * samples + SERIES_BYTES * len(batch.series)
    pending = Pending(batch, source.lane_id, source.holder, 0, source.clock_id, offset_ns, received_ns, size, samples)
    wrong = _wrong_as_whole(batch, source, pending)
    if wrong is not None:
        pending.crc = malformed_crc(0, batch.series)
        pending.refuse_whole(*wrong)
        return pending
    for part, (series, parsed) in enumerate(zip(batch.series, parse(batch.series), strict=True)):
        _take(pending, part, series, parsed, channels.get(series.alias), refused.get(series.alias))
    if batch.HasField("crc32c") and batch.crc32c != pending.crc:
        pending.refuse_whole(CRC_MISMATCH, "crc32c does not match the content")
    return pending


def _wrong_as_whole(batch: Batch, source: Source, pending: Pending) -> tuple[ErrorReason.ValueType, str] | None:
    if len(batch.series) > MAX_BATCH_SERIES:
        return TOO_MANY_SERIES, f"{len(batch.series)} series in a batch, at most {MAX_BATCH_SERIES}"
    if pending.samples > MAX_BATCH_SAMPLES:
        return TOO_MANY_SAMPLES, f"{pending.samples} samples in a batch, at most {MAX_BATCH_SAMPLES}"
    if source.is_monotonic and not batch.HasField("device_sent_ns"):
        return CLOCK_ANCHOR_MISSING, "a monotonic clock needs device_sent_ns"
    if abs(pending.offset_ns) >= SAFE_SUM:
        return TIME_OUT_OF_RANGE, "device_sent_ns is no time of a device"
    return None


def encode_together(group: Sequence[Pending]) -> None:
    """Encodes what the batches of a commit took; what turns out to lie outside of the allowed times is refused."""
    for is_integer in (False, True):
        series = [
            (pending, taken)
            for pending in group
            for taken in pending.taken
            if (taken.samples.values.dtype == np.int64) is is_integer
        ]
        for portion in _portions(series):
            blocks = encode([_input(pending, taken) for pending, taken in portion])
            for (pending, taken), block in zip(portion, blocks, strict=True):
                _place(pending, taken, block)
    for pending in group:
        pending.taken.clear()
        if len({accepted.block.placed_us // CHUNK_US for accepted in pending.accepted}) > MAX_CHUNKS:
            pending.refuse_whole(TIME_SPAN_TOO_WIDE, f"the batch spans more than {MAX_CHUNKS} chunks of 7 days")


def _portions(series: Sequence[tuple[Pending, Taken]]) -> Iterator[Sequence[tuple[Pending, Taken]]]:
    """In portions whose arrays stay in the processor's cache."""
    begin = samples = 0
    for end, (_, taken) in enumerate(series, 1):
        samples += len(taken.samples.values)
        if samples >= PORTION_SAMPLES or end == len(series):
            yield series[begin:end]
            begin, samples = end, 0


def value_type(series: Series) -> str:
    """The type that a series gives to its channel, as in `channels.value_type`."""
    return "INTEGER" if series.WhichOneof("values") == "integers" else "DOUBLE"


def _take(
    pending: Pending,
    part: int,
    series: Series,
    parsed: Samples | BadSeriesError,
    channel: Channel | None,
    refused: Channel | None,
) -> None:
    if isinstance(parsed, BadSeriesError):
        pending.crc = malformed_crc(pending.crc, [series])
        pending.refusals.append(refuse_series(part, series, parsed.reason, parsed.message, channel or refused))
        return
    pending.crc = extend_crc(pending.crc, series.alias, parsed)
    if channel is None:
        text = f"alias {series.alias} is not bound"
        pending.refusals.append(refuse_series(part, series, UNKNOWN_ALIAS, text, refused))
    else:
        pending.taken.append(Taken(part, series, channel, parsed))


def _input(pending: Pending, taken: Taken) -> Input:
    origin = Origin(pending.lane_id, pending.seq, pending.clock_id, pending.offset_ns, pending.received_ns)
    return Input(origin, taken.part, taken.channel.channel_id, taken.channel.capture_session_id, taken.samples)


def _place(pending: Pending, taken: Taken, block: Block) -> None:
    if block.first_ns < 0 or block.last_ns > pending.received_ns + FUTURE_NS:
        text = "a time lies before 1970 or more than a day in the future"
        pending.refusals.append(taken.refuse(TIME_OUT_OF_RANGE, text))
    elif block.span_ns > MAX_CHUNKS * CHUNK_US * 1000:
        text = f"the series spans more than {MAX_CHUNKS} chunks of 7 days"
        pending.refusals.append(taken.refuse(TIME_SPAN_TOO_WIDE, text))
    else:
        pending.accepted.append(Accepted(block, taken))
