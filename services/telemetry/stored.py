"""Stored blocks, read back as arrays. No sample becomes a Python object on the way."""

from collections.abc import AsyncIterator, Sequence
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
from services.telemetry.selection import SelectedChannel
from services.telemetry.series import Times, Values

READ = (
    "channel_id, (extract(epoch FROM placed_at) * 1000000)::bigint AS placed_us, span_ns, start_ns, offset_ns, "
    "period_ns, lane_id, seq, commit_id, clock_id, n, late, received_at, capture_session_id::text, residuals_i4, "
    "residuals_i8, values_f8, values_i8"
)
QUERY = sql.SQL(f"SELECT {READ} FROM sample_blocks WHERE {{}} ORDER BY placed_at, lane_id, seq")
FETCH_FIRST, FETCH_MOST = 4, 1000
FOREVER_NS = 2**63 - 1


@dataclass(frozen=True)
class StoredBlock:
    """A row of sample_blocks. Arrays are numpy; one of the values columns is set."""

    channel_id: int
    placed_us: int
    span_ns: int
    start_ns: int
    offset_ns: int
    period_ns: int
    lane_id: int
    seq: int
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
    """WHERE for the blocks of a channel that may hold samples of a range, and that the caller may see."""
    where = sql.SQL(
        """channel_id = %(channel)s AND placed_at >= to_timestamp(%(from_s)s) AND placed_at < to_timestamp(%(until_s)s)
        AND (capture_session_id = ANY(%(sessions)s::uuid[]) OR (capture_session_id IS NULL AND %(outside)s))"""
    )
    return where, {
        "channel": channel.channel_id,
        # A second of margin on both ends: floating-point seconds and whole microseconds must not cut a block off.
        "from_s": max(wanted.start_ns - channel.max_span_ns, 0) / 1e9 - 1,
        "until_s": min(wanted.end_ns / 1e9 + 1, 253_402_300_000),
        "sessions": [session for session in channel.sessions if session],
        "outside": None in channel.sessions,
    }


async def read_blocks(
    db: Connection, channel: SelectedChannel, wanted: Range, budget_bytes: int
) -> AsyncIterator[StoredBlock]:
    """Blocks by placed_at, fetched in portions of about `budget_bytes`. Needs an open transaction."""
    where, parameters = condition(channel, wanted)
    query = sql.SQL("SELECT {} FROM sample_blocks WHERE {} ORDER BY placed_at, lane_id, seq").format(
        sql.SQL(READ), where
    )
    async with AsyncServerCursor(db, f"channel_{channel.channel_id}", row_factory=class_row(StoredBlock)) as cursor:
        _load_arrays(cursor)
        await cursor.execute(query, parameters, binary=True)
        size = FETCH_FIRST
        while blocks := await cursor.fetchmany(size):
            for block in blocks:
                yield block
            mean_bytes = 16 * sum(block.n for block in blocks) // len(blocks) + 200
            size = max(1, min(budget_bytes // mean_bytes, FETCH_MOST))


async def fetch_blocks(db: Connection, where: sql.Composable, parameters: dict[str, Any]) -> Sequence[StoredBlock]:
    """All blocks that a condition names, by placed_at: for few."""
    query = sql.SQL("SELECT {} FROM sample_blocks WHERE {} ORDER BY placed_at, lane_id, seq").format(
        sql.SQL(READ), where
    )
    async with db.cursor(row_factory=class_row(StoredBlock), binary=True) as cursor:
        _load_arrays(cursor)
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


def _load_arrays(cursor: Any) -> None:
    cursor.adapters.register_loader(1022, _Float8Array)
    cursor.adapters.register_loader(1016, _Int8Array)
    cursor.adapters.register_loader(1007, _Int4Array)


def is_ascending(time_ns: Times) -> bool:
    """Whether times never go back."""
    return bool(np.all(time_ns[1:] >= time_ns[:-1]))
