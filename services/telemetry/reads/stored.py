"""Stored blocks, read back as arrays. No sample becomes a Python object on the way."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from psycopg import AsyncServerCursor, sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.rows import class_row

from services.db.pool import Connection
from services.telemetry.blocks import device_times, load_array
from services.telemetry.reads.selection import SelectedChannel
from services.telemetry.series import Times, Values

READ = (
    "channel_id, (extract(epoch FROM placed_at) * 1000000)::bigint AS placed_us, span_ns, start_ns, offset_ns, "
    "period_ns, lane_id, seq, part, commit_id, clock_id, n, late, received_at, capture_session_id::text, residuals_i4, "
    "residuals_i8, values_f8, values_i8"
)
ORDER = "placed_at, lane_id, seq, part"
QUERY = sql.SQL(f"SELECT {READ} FROM sample_blocks WHERE {{}} ORDER BY {ORDER}")
# Beside each block, how many samples the next rows hold: so a portion is bounded before it is fetched.
FETCH_MOST = 64
AHEAD = f"(sum(n) OVER (ORDER BY {ORDER} ROWS BETWEEN 1 FOLLOWING AND {FETCH_MOST} FOLLOWING))::bigint AS ahead"
AHEAD_QUERY = sql.SQL(f"SELECT {READ}, {AHEAD} FROM sample_blocks WHERE {{}} ORDER BY {ORDER}")
# Of the largest blocks (65 536 samples) four: 5 MiB as they come, the same again as arrays.
PORTION_SAMPLES, FETCH_LARGE = 262_144, 4
FOREVER_NS = 2**63 - 1


@dataclass(frozen=True)
class StoredBlock:
    """A row of sample_blocks. Arrays are numpy; one of the values columns is set.

    `ahead`: samples in the rows to come, where blocks are read in portions; None at the last one.
    """

    channel_id: int
    placed_us: int
    span_ns: int
    start_ns: int
    offset_ns: int
    period_ns: int
    lane_id: int
    seq: int
    part: int
    commit_id: int
    clock_id: int
    n: int
    late: bool
    received_at: datetime
    capture_session_id: str | None
    residuals_i4: Times | None
    residuals_i8: Times | None
    values_f8: Values | None
    values_i8: Values | None
    ahead: int | None = None

    @property
    def time_ns(self) -> Times:
        """Times on the common axis, in the order in which they were sent."""
        residuals = self.residuals_i4 if self.residuals_i4 is not None else self.residuals_i8
        return device_times(self.start_ns, self.period_ns, residuals, self.n) + self.offset_ns

    @property
    def values(self) -> Values:
        values = self.values_f8 if self.values_f8 is not None else self.values_i8
        assert values is not None
        return values


@dataclass(frozen=True)
class Range:
    """Half-open, in nanoseconds since 1970; the defaults take in everything."""

    start_ns: int = 0
    end_ns: int = FOREVER_NS


class _Float8Array(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        return load_array(data, None)


class _Int8Array(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        return load_array(data, 8)


class _Int4Array(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        return load_array(data, 4)


def condition(channel: SelectedChannel, wanted: Range) -> tuple[sql.SQL, dict[str, Any]]:
    """WHERE for the blocks of a channel that may hold samples of a range, and that the caller may see.

    Looking back by the longest block finds them by the index; the span of each then drops those that end too early
    before their arrays are touched: one block with a wild time must not make every read a long one.
    """
    where = sql.SQL(
        """channel_id = %(channel)s AND placed_at >= to_timestamp(%(from_s)s) AND placed_at < to_timestamp(%(until_s)s)
        AND placed_at + (span_ns / 1000) * interval '1 microsecond' >= to_timestamp(%(start_s)s)
        AND (capture_session_id = ANY(%(sessions)s::uuid[]) OR (capture_session_id IS NULL AND %(outside)s))"""
    )
    return where, {
        "channel": channel.channel_id,
        # A second of margin on both ends: floating-point seconds and whole microseconds must not cut a block off.
        "from_s": max(wanted.start_ns - channel.max_span_ns, 0) / 1e9 - 1,
        "start_s": max(wanted.start_ns, 0) / 1e9 - 1,
        "until_s": min(wanted.end_ns / 1e9 + 1, 253_402_300_000),
        "sessions": [session for session in channel.sessions if session],
        "outside": None in channel.sessions,
    }


async def read_blocks(db: Connection, channel: SelectedChannel, wanted: Range) -> AsyncGenerator[StoredBlock, None]:
    """Blocks by placed_at, fetched in portions of at most PORTION_SAMPLES. Needs an open transaction.

    Close it before the transaction ends: it holds a cursor of the server.
    """
    where, parameters = condition(channel, wanted)
    async with AsyncServerCursor(db, f"channel_{channel.channel_id}", row_factory=class_row(StoredBlock)) as cursor:
        load_arrays(cursor)
        await cursor.execute(AHEAD_QUERY.format(where), parameters, binary=True)
        blocks = await cursor.fetchmany(1)
        while blocks:
            ahead = blocks[-1].ahead
            for block in blocks:
                yield block
            if ahead is None:
                return
            blocks = await cursor.fetchmany(FETCH_MOST if ahead <= PORTION_SAMPLES else FETCH_LARGE)


async def fetch_blocks(db: Connection, where: sql.Composable, parameters: dict[str, Any]) -> Sequence[StoredBlock]:
    """All blocks that a condition names, by placed_at: for few."""
    async with db.cursor(row_factory=class_row(StoredBlock), binary=True) as cursor:
        load_arrays(cursor)
        await cursor.execute(QUERY.format(where), parameters)
        return await cursor.fetchall()


def load_arrays(cursor: Any) -> None:
    """Makes a cursor load arrays of numbers as numpy arrays; it must answer in binary form."""
    cursor.adapters.register_loader(1022, _Float8Array)
    cursor.adapters.register_loader(1016, _Int8Array)
    cursor.adapters.register_loader(1007, _Int4Array)


def is_ascending(time_ns: Times) -> bool:
    """Whether times never go back."""
    return bool(np.all(time_ns[1:] >= time_ns[:-1]))
