"""Equal stretches of time with the statistics of the samples in them, filled from the statistics of blocks.

A block may stand for its samples where it lies wholly in one bucket, one conversion and the wanted range, and overlaps
no other. The database finds and adds up those; what it answers goes with the number of buckets, not of blocks. Only the
times and sizes of the other blocks are told one by one, as arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psycopg import sql

from services.db.pool import Connection
from services.telemetry.reads.physical import Conversion, Converter
from services.telemetry.reads.selection import SelectedChannel
from services.telemetry.reads.stored import Range, condition, load_arrays
from services.telemetry.series import Times, Values

# placed_at is rounded down to a microsecond: the end, which is exclusive, may lie one further.
BLOCKS = """block AS (
        SELECT placed_us, 1000 * placed_us AS start_ns, 1000 * placed_us + span_ns + 1001 AS end_ns, placed_at, n,
            v_count, v_min, v_max, v_sum, capture_session_id
        FROM (SELECT *, (extract(epoch FROM placed_at) * 1000000)::bigint AS placed_us FROM sample_blocks WHERE {}) b
    )"""


@dataclass(frozen=True)
class Extent:
    """Where the samples of a wanted range lie, at least how many they are, and the session of the newest block."""

    range: Range
    samples: int
    newest_session_id: str | None


@dataclass(frozen=True)
class Rest:
    """Blocks that must be decoded: their places in order, and how many samples lie at each."""

    placed_us: npt.NDArray[np.int64]
    n: npt.NDArray[np.int64]


async def extent(db: Connection, channel: SelectedChannel, wanted: Range) -> Extent | None:
    """The extent of a channel's samples in a range; None where there are none."""
    where, parameters = condition(channel, wanted)
    query = sql.SQL(
        f"""WITH {BLOCKS} SELECT min(start_ns), max(end_ns),
            coalesce(sum(n) FILTER (WHERE start_ns >= %(start_ns)s AND end_ns <= %(end_ns)s), 0)::bigint,
            last(capture_session_id, placed_at)::text
        FROM block WHERE end_ns > %(start_ns)s AND start_ns < %(end_ns)s"""
    ).format(where)
    cursor = await db.execute(query, parameters | {"start_ns": wanted.start_ns, "end_ns": wanted.end_ns})
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return None
    cut = Range(max(wanted.start_ns, row[0]), min(wanted.end_ns, row[1]))
    return Extent(cut, row[2], row[3]) if cut.start_ns < cut.end_ns else None


class Buckets:
    """At most `count` buckets over a range."""

    def __init__(self, wanted: Range, count: int) -> None:
        # Whole numbers throughout: a float64 steps by 256 ns at today's times.
        self.range, self.width_ns = wanted, max(1, -(-(wanted.end_ns - wanted.start_ns) // count))
        number = -(-(wanted.end_ns - wanted.start_ns) // self.width_ns)
        self.start_ns = wanted.start_ns + self.width_ns * np.arange(number, dtype=np.int64)
        self.min, self.max = np.full(number, np.inf), np.full(number, -np.inf)
        self.sum, self.numbers = np.zeros(number), np.zeros(number, np.int64)
        self.count = np.zeros(number, np.int64)

    def add_samples(self, time_ns: Times, values: Values) -> None:
        """Adds samples of the range one by one; NaN counts, and nothing else."""
        index, numbers = (time_ns - self.range.start_ns) // self.width_ns, ~np.isnan(values)
        at, good = index[numbers], values[numbers].astype(np.float64)
        np.add.at(self.count, index, 1)
        np.minimum.at(self.min, at, good)
        np.maximum.at(self.max, at, good)
        with np.errstate(invalid="ignore", over="ignore"):
            np.add.at(self.sum, at, good)
        np.add.at(self.numbers, at, 1)

    async def add_blocks(self, db: Connection, channel: SelectedChannel, converter: Converter) -> Rest:
        """Adds all blocks that may stand for their samples; returns the others."""
        rest = Rest(np.empty(0, np.int64), np.empty(0, np.int64))
        for row in await self._read(db, channel, converter):
            whole, bucket, session_id, stretch, n, numbers, low, high, total, placed_us, sizes = row
            if whole:
                at_ns = converter.timeline[stretch].start_ns
                (holds,) = converter.stretches(session_id, at_ns, at_ns + 1)
                self._add(bucket, holds.conversion, n, numbers, low, high, total)
            else:
                places, place = np.unique(placed_us, return_inverse=True)
                rest = Rest(places, np.bincount(place, weights=sizes).astype(np.int64))
        return rest

    async def _read(
        self, db: Connection, channel: SelectedChannel, converter: Converter
    ) -> Sequence[tuple[bool, int, str | None, int, int, int, float, float, float, Times, Times]]:
        where, parameters = condition(channel, self.range)
        query = sql.SQL(
            f"""WITH {BLOCKS}, neighbour AS (
                SELECT *, lead(start_ns) OVER (ORDER BY placed_at) AS next_ns, max(end_ns) OVER (
                    ORDER BY placed_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached_ns
                FROM block WHERE end_ns > %(start_ns)s AND start_ns < %(end_ns)s
            ), placed AS (
                SELECT *, (start_ns - %(start_ns)s) / %(width_ns)s AS bucket,
                    width_bucket(start_ns, %(borders)s::bigint[]) AS stretch,
                    start_ns >= %(start_ns)s AND end_ns <= %(end_ns)s
                    AND (start_ns - %(start_ns)s) / %(width_ns)s = (end_ns - 1 - %(start_ns)s) / %(width_ns)s
                    AND width_bucket(start_ns, %(borders)s::bigint[])
                        = width_bucket(end_ns - 1, %(borders)s::bigint[])
                    AND coalesce(reached_ns <= start_ns, true) AND coalesce(next_ns >= end_ns, true)
                    -- PostgreSQL refuses a sum that overflows; infinities are added up by numpy, too
                    AND (v_count = 0 OR v_sum BETWEEN -1e290 AND 1e290) AS whole
                FROM neighbour
            )
            SELECT whole, CASE WHEN whole THEN bucket END, CASE WHEN whole THEN capture_session_id END::text,
                CASE WHEN whole THEN stretch END, sum(n)::bigint, sum(v_count)::bigint, min(v_min), max(v_max),
                sum(v_sum) FILTER (WHERE whole),
                array_agg(placed_us) FILTER (WHERE NOT whole), array_agg(n) FILTER (WHERE NOT whole)
            FROM placed GROUP BY 1, 2, 3, 4"""
        ).format(where)
        parameters |= {
            "start_ns": self.range.start_ns,
            "end_ns": self.range.end_ns,
            "width_ns": self.width_ns,
            "borders": [stretch.start_ns for stretch in converter.timeline[1:]],
        }
        async with db.cursor(binary=True) as cursor:
            load_arrays(cursor)
            await cursor.execute(query, parameters)
            return await cursor.fetchall()

    def _add(
        self, at: int, conversion: Conversion, n: int, numbers: int, low: float, high: float, total: float
    ) -> None:
        self.count[at] += n
        if numbers:
            # A negative scale swaps smallest and largest.
            ends = conversion.apply(np.array([low, high]))
            self.min[at], self.max[at] = min(self.min[at], ends.min()), max(self.max[at], ends.max())
            with np.errstate(invalid="ignore", over="ignore"):
                self.sum[at] += total * conversion.scale + conversion.offset * numbers
            self.numbers[at] += numbers
