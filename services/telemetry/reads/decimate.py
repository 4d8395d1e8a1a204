"""GetSeries: few points for many samples.

The cost goes with the points, not with the samples: only blocks whose statistics do not do are decoded. LTTB decodes
all, and keeps few.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np
import numpy.typing as npt
from psycopg import sql
from tsdownsample import LTTBDownsampler, MinMaxDownsampler

from rigmesh.v1.telemetry_pb2 import DecimatedSeries
from services.db.pool import Connection
from services.telemetry.reads.buckets import Buckets, Extent, Rest, extent
from services.telemetry.reads.merge import Piece, merged
from services.telemetry.reads.physical import Converter
from services.telemetry.reads.selection import SelectedChannel
from services.telemetry.reads.stored import PORTION_SAMPLES, Range, StoredBlock, condition, fetch_blocks, read_blocks
from services.telemetry.series import Times

FETCHED_AT_ONCE = 200
PIECE_EXTREMES = 512
LTTB_RATIO = 16  # candidates kept for each point wanted
Floats = npt.NDArray[np.float64]


async def decimate(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range, max_points: int, lttb: bool
) -> DecimatedSeries:
    """At most `max_points` points (2 or more) of a channel, or every sample where there are no more."""
    found = await extent(db, channel, wanted)
    series = DecimatedSeries(channel=channel.channel, unit=channel.unit)
    if found is None:
        return series
    _name_unit(series, converter, found)
    if found.samples <= max_points:
        samples = await _few_samples(db, channel, converter, found.range, max_points)
        if samples is not None:
            return _exact(series, *samples, len(samples[0]))
    if lttb:
        return _exact(series, *await _lttb(db, channel, converter, found.range, max_points))
    buckets = Buckets(found.range, max_points)
    rest = await buckets.add_blocks(db, channel, converter)
    await _add_decoded(db, channel, converter, rest, buckets)
    return _fill(series, buckets)


def _name_unit(series: DecimatedSeries, converter: Converter, found: Extent) -> None:
    stretches = converter.stretches(found.newest_session_id, found.range.start_ns, found.range.end_ns)
    newest = list(stretches)[-1].conversion
    series.unit, series.conversion_profile_id = newest.unit, newest.conversion_profile_id


async def _pieces(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range
) -> AsyncGenerator[Piece, None]:
    async with aclosing(read_blocks(db, channel, wanted)) as blocks, aclosing(merged(blocks, wanted)) as pieces:
        async for piece in pieces:
            for _, converted in converter.convert(piece):
                yield converted


async def _few_samples(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range, most: int
) -> tuple[Times, Floats] | None:
    """All samples; None where there are more than `most`, which blocks that reach into the range may hold."""
    held, samples = list[Piece](), 0
    async with aclosing(_pieces(db, channel, converter, wanted)) as pieces:
        async for piece in pieces:
            held.append(piece)
            samples += len(piece.time_ns)
            if samples > most:
                return None
    return _concatenated(held)


async def _lttb(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range, max_points: int
) -> tuple[Times, Floats, int]:
    """MinMaxLTTB, the first step piece by piece: what sticks out of each is a candidate for the second."""
    candidates, held, samples = list[Piece](), 0, 0
    async with aclosing(_pieces(db, channel, converter, wanted)) as pieces:
        async for piece in pieces:
            samples += len(piece.time_ns)
            candidates.append(_extremes(piece, PIECE_EXTREMES))
            held += len(candidates[-1].time_ns)
            if held > 2 * LTTB_RATIO * max_points:
                candidates = [_extremes(Piece(*_concatenated(candidates), None, False), LTTB_RATIO * max_points)]
                held = len(candidates[0].time_ns)
    time_ns, values = _concatenated(candidates)
    if len(time_ns) > max_points:
        chosen = _largest_triangles(time_ns, values, max_points)
        time_ns, values = time_ns[chosen], values[chosen]
    return time_ns, values, samples


def _extremes(piece: Piece, most: int) -> Piece:
    """The smallest and largest of equal runs of samples; `most` is even."""
    if len(piece.time_ns) <= most:
        return piece
    # A run of NaN names its first sample twice.
    chosen = np.unique(MinMaxDownsampler().downsample(piece.values, n_out=most))
    return Piece(piece.time_ns[chosen], piece.values[chosen], piece.capture_session_id, piece.late)


def _largest_triangles(time_ns: Times, values: Floats, most: int) -> npt.NDArray[np.integer]:
    if most < 3:  # the ends, which LTTB always keeps; the library panics below three
        return np.array([0, len(time_ns) - 1])
    # MinMaxLTTBDownsampler panics where several samples share a time.
    chosen: npt.NDArray[np.integer] = LTTBDownsampler().downsample(
        time_ns - time_ns[0], np.nan_to_num(values), n_out=most
    )
    return chosen


async def _add_decoded(
    db: Connection, channel: SelectedChannel, converter: Converter, rest: Rest, buckets: Buckets
) -> None:
    async with (
        aclosing(_at(db, channel, buckets.range, rest)) as blocks,
        aclosing(merged(blocks, buckets.range)) as pieces,
    ):
        async for piece in pieces:
            for _, converted in converter.convert(piece):
                buckets.add_samples(converted.time_ns, converted.values)


async def _at(db: Connection, channel: SelectedChannel, wanted: Range, rest: Rest) -> AsyncGenerator[StoredBlock, None]:
    """The blocks at places, in portions of bounded size."""
    where, parameters = condition(channel, wanted)
    named = sql.SQL("{} AND placed_at = ANY(SELECT to_timestamp(us / 1e6) FROM unnest(%(placed)s::bigint[]) us)")
    before = np.r_[0, np.cumsum(rest.n)]
    first = 0
    while first < len(rest.placed_us):
        fitting = int(np.searchsorted(before, before[first] + PORTION_SAMPLES, side="right")) - 1
        last = min(max(fitting, first + 1), first + FETCHED_AT_ONCE)
        chosen = rest.placed_us[first:last].tolist()
        for block in await fetch_blocks(db, named.format(where), parameters | {"placed": chosen}):
            yield block
        first = last


def _fill(series: DecimatedSeries, buckets: Buckets) -> DecimatedSeries:
    filled = buckets.count > 0
    numbers = buckets.numbers[filled]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = buckets.sum[filled] / numbers
    series.samples = int(buckets.count.sum())
    series.time_ns.extend(buckets.start_ns[filled].tolist())
    series.min.extend(np.where(numbers > 0, buckets.min[filled], np.nan).tolist())
    series.max.extend(np.where(numbers > 0, buckets.max[filled], np.nan).tolist())
    series.mean.extend(mean.tolist())
    series.count.extend(buckets.count[filled].tolist())
    return series


def _exact(series: DecimatedSeries, time_ns: Times, values: Floats, samples: int) -> DecimatedSeries:
    series.samples = samples
    series.time_ns.extend(time_ns.tolist())
    for column in (series.min, series.max, series.mean):
        column.extend(values.tolist())
    series.count.extend([1] * len(time_ns))
    return series


def _concatenated(pieces: Sequence[Piece]) -> tuple[Times, Floats]:
    time_ns = np.concatenate([np.empty(0, np.int64), *(piece.time_ns for piece in pieces)])
    return time_ns, np.concatenate([np.empty(0), *(piece.values.astype(np.float64) for piece in pieces)])
