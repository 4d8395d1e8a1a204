"""GetSeries: few points for many samples.

Buckets are filled from the statistics of blocks where a block lies wholly in one bucket, one conversion and the wanted
range, and overlaps no other; only the others are decoded. So the cost goes with the buckets, not with the samples.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psycopg import sql
from tsdownsample import MinMaxDownsampler, MinMaxLTTBDownsampler

from rigmesh.v1.telemetry_pb2 import DecimatedSeries
from services.db.pool import Connection
from services.telemetry.merge import Piece, merged
from services.telemetry.physical import Conversion, Converter
from services.telemetry.selection import SelectedChannel
from services.telemetry.series import Times, Values
from services.telemetry.stored import Range, StoredBlock, condition, fetch_blocks, read_blocks

BUDGET_BYTES = 16 * 1024 * 1024
FETCHED_AT_ONCE = 200
LTTB_RATIO = 16  # candidates kept for each point wanted
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Headers:
    """Statistics of blocks by placed_at, a column each; times in nanoseconds, the end is exclusive."""

    placed_us: npt.NDArray[np.int64]
    end_ns: Times
    n: npt.NDArray[np.int64]
    v_count: npt.NDArray[np.int64]
    v_min: Floats
    v_max: Floats
    v_sum: Floats
    session: list[str | None]

    @property
    def start_ns(self) -> Times:
        return self.placed_us * 1000


class Buckets:
    """Equal stretches of time with the statistics of the samples in them."""

    def __init__(self, wanted: Range, count: int) -> None:
        self.edges = np.linspace(wanted.start_ns, wanted.end_ns, count + 1).astype(np.int64)
        self.min, self.max = np.full(count, np.inf), np.full(count, -np.inf)
        self.sum, self.numbers = np.zeros(count), np.zeros(count, np.int64)
        self.count = np.zeros(count, np.int64)

    def index(self, time_ns: Times) -> npt.NDArray[np.int64]:
        """The bucket of each time."""
        return np.clip(np.searchsorted(self.edges, time_ns, side="right") - 1, 0, len(self.count) - 1)

    def add_samples(self, time_ns: Times, values: Values) -> None:
        """Adds samples one by one; NaN counts, and nothing else."""
        index, numbers = self.index(time_ns), ~np.isnan(values)
        at, good = index[numbers], values[numbers].astype(np.float64)
        np.add.at(self.count, index, 1)
        self._add(at, good, good, good, np.ones(len(good), np.int64))

    def add_blocks(self, headers: Headers, chosen: npt.NDArray[np.bool_], conversion: Conversion) -> None:
        """Adds whole blocks by their statistics; a negative scale swaps smallest and largest."""
        index, numbers = self.index(headers.start_ns[chosen]), headers.v_count[chosen]
        np.add.at(self.count, index, headers.n[chosen])
        some = numbers > 0
        low, high = conversion.apply(headers.v_min[chosen]), conversion.apply(headers.v_max[chosen])
        total = headers.v_sum[chosen] * conversion.scale + conversion.offset * numbers
        self._add(index[some], np.minimum(low, high)[some], np.maximum(low, high)[some], total[some], numbers[some])

    def _add(
        self, index: npt.NDArray[np.int64], low: Values, high: Values, total: Values, numbers: npt.NDArray[np.int64]
    ) -> None:
        np.minimum.at(self.min, index, low)
        np.maximum.at(self.max, index, high)
        np.add.at(self.sum, index, total)
        np.add.at(self.numbers, index, numbers)


async def decimate(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range, max_points: int, lttb: bool
) -> DecimatedSeries:
    """At most `max_points` points of a channel, or every sample where there are no more."""
    headers = await _headers(db, channel, wanted)
    inside = _inside(headers, wanted)
    series = DecimatedSeries(channel=channel.channel, unit=channel.unit)
    if inside is None:
        return series
    _name_unit(series, converter, headers, inside)
    if headers.n[_wholly(headers, inside)].sum() <= max_points:
        time_ns, values = await _samples(db, channel, converter, inside)
        if len(time_ns) <= max_points:
            return _exact(series, time_ns, values, len(time_ns))
    if lttb:
        return _exact(series, *await _lttb(db, channel, converter, inside, max_points))
    return await _min_max(db, channel, converter, inside, headers, max_points, series)


async def _headers(db: Connection, channel: SelectedChannel, wanted: Range) -> Headers:
    where, parameters = condition(channel, wanted)
    query = sql.SQL(
        """SELECT (extract(epoch FROM placed_at) * 1000000)::bigint, span_ns, n, v_count, v_min, v_max, v_sum,
            capture_session_id::text
        FROM sample_blocks WHERE {} ORDER BY placed_at"""
    ).format(where)
    async with db.cursor(binary=True) as cursor:
        await cursor.execute(query, parameters)
        rows = await cursor.fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * 8
    placed_us, span_ns, n, v_count = (np.array(column, np.int64) for column in columns[:4])
    v_min, v_max, v_sum = (np.array(column, np.float64) for column in columns[4:7])
    # placed_at is rounded down to a microsecond: the end may lie one further.
    end_ns = placed_us * 1000 + span_ns + 1001
    kept = (end_ns > wanted.start_ns) & (placed_us * 1000 < wanted.end_ns)
    return Headers(
        placed_us[kept], end_ns[kept], n[kept], v_count[kept], v_min[kept], v_max[kept], v_sum[kept],
        [session for session, keep in zip(columns[7], kept.tolist(), strict=True) if keep],
    )  # fmt: skip


def _inside(headers: Headers, wanted: Range) -> Range | None:
    """The wanted range, cut to where there are samples; None where there are none."""
    if not len(headers.n):
        return None
    start = max(wanted.start_ns, int(headers.start_ns.min()))
    end = min(wanted.end_ns, int(headers.end_ns.max()))
    return Range(start, end) if start < end else None


def _name_unit(series: DecimatedSeries, converter: Converter, headers: Headers, inside: Range) -> None:
    newest = list(converter.stretches(headers.session[-1], inside.start_ns, inside.end_ns))[-1].conversion
    series.unit, series.conversion_profile_id = newest.unit, newest.conversion_profile_id


async def _pieces(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range
) -> AsyncIterator[Piece]:
    blocks = read_blocks(db, channel, wanted, BUDGET_BYTES)
    async for piece in merged(blocks, wanted):
        for _, converted in converter.convert(piece):
            yield converted


async def _samples(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range
) -> tuple[Times, Floats]:
    pieces = [piece async for piece in _pieces(db, channel, converter, wanted)]
    return _concatenated(pieces)


async def _lttb(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range, max_points: int
) -> tuple[Times, Floats, int]:
    candidates, held, samples = list[Piece](), 0, 0
    async for piece in _pieces(db, channel, converter, wanted):
        samples += len(piece.time_ns)
        candidates.append(_extremes(piece))
        held += len(candidates[-1].time_ns)
        if held > 2 * LTTB_RATIO * max_points:
            candidates = [_extremes(Piece(*_concatenated(candidates), None, False), LTTB_RATIO * max_points)]
            held = len(candidates[0].time_ns)
    time_ns, values = _concatenated(candidates)
    if len(time_ns) > max_points:
        chosen = MinMaxLTTBDownsampler().downsample(time_ns, np.nan_to_num(values), n_out=max_points)
        time_ns, values = time_ns[chosen], values[chosen]
    return time_ns, values, samples


def _extremes(piece: Piece, most: int = 512) -> Piece:
    if len(piece.time_ns) <= most:
        return piece
    chosen = MinMaxDownsampler().downsample(piece.values, n_out=most // 2 * 2)
    return Piece(piece.time_ns[chosen], piece.values[chosen], piece.capture_session_id, piece.late)


async def _min_max(
    db: Connection,
    channel: SelectedChannel,
    converter: Converter,
    wanted: Range,
    headers: Headers,
    max_points: int,
    series: DecimatedSeries,
) -> DecimatedSeries:
    buckets = Buckets(wanted, max_points)
    rest = np.ones(len(headers.n), bool)
    whole = _alone(headers) & _within_one_bucket(buckets, headers, wanted)
    for session in set(headers.session):
        of_session = np.array([other == session for other in headers.session])
        for stretch in converter.stretches(session, wanted.start_ns, wanted.end_ns):
            within = (headers.start_ns >= stretch.start_ns) & (headers.end_ns <= stretch.end_ns)
            chosen = whole & of_session & within
            buckets.add_blocks(headers, chosen, stretch.conversion)
            rest &= ~chosen
    await _add_decoded(db, channel, converter, wanted, headers.placed_us[rest], buckets)
    return _fill(series, buckets)


def _wholly(headers: Headers, wanted: Range) -> npt.NDArray[np.bool_]:
    return (headers.start_ns >= wanted.start_ns) & (headers.end_ns <= wanted.end_ns)


def _alone(headers: Headers) -> npt.NDArray[np.bool_]:
    """Blocks that overlap none: only then are their statistics those of the samples that are shown."""
    reach = np.maximum.accumulate(headers.end_ns)
    after_all = np.r_[True, headers.start_ns[1:] >= reach[:-1]]
    before_next = np.r_[headers.end_ns[:-1] <= headers.start_ns[1:], True]
    alone: npt.NDArray[np.bool_] = after_all & before_next
    return alone


def _within_one_bucket(buckets: Buckets, headers: Headers, wanted: Range) -> npt.NDArray[np.bool_]:
    within: npt.NDArray[np.bool_] = buckets.index(headers.start_ns) == buckets.index(headers.end_ns - 1)
    return within & _wholly(headers, wanted)


async def _add_decoded(
    db: Connection,
    channel: SelectedChannel,
    converter: Converter,
    wanted: Range,
    placed_us: npt.NDArray[np.int64],
    buckets: Buckets,
) -> None:
    async for piece in merged(_at(db, channel, wanted, np.unique(placed_us)), wanted):
        for _, converted in converter.convert(piece):
            buckets.add_samples(converted.time_ns, converted.values)


async def _at(
    db: Connection, channel: SelectedChannel, wanted: Range, placed_us: npt.NDArray[np.int64]
) -> AsyncIterator[StoredBlock]:
    where, parameters = condition(channel, wanted)
    named = sql.SQL("{} AND placed_at = ANY(SELECT to_timestamp(us / 1e6) FROM unnest(%(placed)s::bigint[]) us)")
    for first in range(0, len(placed_us), FETCHED_AT_ONCE):
        chosen = placed_us[first : first + FETCHED_AT_ONCE].tolist()
        for block in await fetch_blocks(db, named.format(where), parameters | {"placed": chosen}):
            yield block


def _fill(series: DecimatedSeries, buckets: Buckets) -> DecimatedSeries:
    filled = buckets.count > 0
    numbers = buckets.numbers[filled]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = buckets.sum[filled] / numbers
    series.samples = int(buckets.count.sum())
    series.time_ns.extend(buckets.edges[:-1][filled].tolist())
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
