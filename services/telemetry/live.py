"""StreamTelemetry: history from a point, then what is committed, without a seam.

The cursor is the position of a sealed commit. Each step reads, in one snapshot, the next sealed commits and their
blocks; nothing is held for slow readers, who just take their steps later. The history's snapshot may hold commits that
are not sealed yet: they are named in the cursor, and left out when their turn comes.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import IsolationLevel, sql
from psycopg.rows import class_row

from rigmesh.v1.telemetry_pb2 import TelemetryChunk
from services.db.pool import Connection, Pool
from services.telemetry.chunks import make_chunk
from services.telemetry.merge import merge_all
from services.telemetry.physical import Converter
from services.telemetry.selection import SelectedChannel
from services.telemetry.stored import StoredBlock, fetch_blocks

COMMITS_A_STEP = 8
# Stands for NULL, which `IN` does not find.
NO_SESSION = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Cursor:
    """Position of the last commit that was sent whole, chunks sent of the next one, and commits sent as history."""

    position: int
    chunks: int = 0
    sent: tuple[int, ...] = ()

    def after(self, commit: "Commit") -> "Cursor":
        """The cursor when a commit was sent whole."""
        return Cursor(commit.position, 0, tuple(other for other in self.sent if other != commit.commit_id))


@dataclass(frozen=True)
class Commit:
    """A sealed commit: which channels it wrote to, and where on the time axis."""

    position: int
    commit_id: int
    channel_ids: list[int]
    placed_from: datetime
    placed_until: datetime


@contextlib.asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Connection]:
    """A connection with one read-only snapshot of the database."""
    async with pool.connection() as db:
        await db.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        try:
            async with db.transaction():
                yield db
        finally:
            await db.set_isolation_level(None)


async def cursor_now(db: Connection) -> Cursor:
    """The cursor after everything that this snapshot sees."""
    result = await db.execute(
        """SELECT coalesce((SELECT max(position) FROM ingest_commit_seals), 0),
            ARRAY(SELECT commit_id FROM ingest_commits ORDER BY commit_id)"""
    )
    row = await result.fetchone()
    assert row is not None
    return Cursor(row[0], 0, tuple(row[1]))


async def next_commits(db: Connection, cursor: Cursor) -> Sequence[Commit]:
    """The next few commits after a cursor."""
    async with db.cursor(row_factory=class_row(Commit)) as result:
        await result.execute(
            """SELECT position, commit_id, channel_ids, placed_from, placed_until FROM ingest_commit_seals
            WHERE position > %s ORDER BY position LIMIT %s""",
            (cursor.position, COMMITS_A_STEP),
        )
        return await result.fetchall()


async def commit_chunks(
    db: Connection,
    commits: Sequence[Commit],
    cursor: Cursor,
    channels: Sequence[SelectedChannel],
    converters: Mapping[int, Converter],
) -> list[tuple[TelemetryChunk, Cursor]]:
    """The chunks of commits that the reader has not had, each with the cursor after it."""
    selected = {channel.channel_id for channel in channels}
    wanted = [
        commit for commit in commits if commit.commit_id not in cursor.sent and selected & set(commit.channel_ids)
    ]
    blocks = await _blocks(db, channels, wanted) if wanted else {}
    step = list[tuple[TelemetryChunk, Cursor]]()
    for commit in commits:
        chunks = _chunks(blocks.get(commit.commit_id, []), channels, converters)[cursor.chunks :]
        after = cursor.after(commit)
        for number, chunk in enumerate(chunks, cursor.chunks + 1):
            is_last = number == cursor.chunks + len(chunks)
            step.append((chunk, after if is_last else replace(cursor, position=commit.position - 1, chunks=number)))
        cursor = after
    return step


async def _blocks(
    db: Connection, channels: Sequence[SelectedChannel], commits: Sequence[Commit]
) -> dict[int, list[StoredBlock]]:
    where = sql.SQL(
        """commit_id = ANY(%(commits)s) AND placed_at BETWEEN %(placed_from)s AND %(placed_until)s
        AND (channel_id, coalesce(capture_session_id, '00000000-0000-0000-0000-000000000000')) IN (
            SELECT * FROM unnest(%(channels)s::int[], %(sessions)s::uuid[]))
        AND channel_id = ANY(%(channels)s)"""
    )
    visible = [(channel.channel_id, session) for channel in channels for session in channel.sessions]
    found = await fetch_blocks(
        db,
        where,
        {
            "commits": [commit.commit_id for commit in commits],
            "placed_from": min(commit.placed_from for commit in commits),
            "placed_until": max(commit.placed_until for commit in commits),
            "channels": [channel_id for channel_id, _ in visible],
            "sessions": [session or NO_SESSION for _, session in visible],
        },
    )
    by_commit: dict[int, list[StoredBlock]] = {}
    for block in found:
        by_commit.setdefault(block.commit_id, []).append(block)
    return by_commit


def _chunks(
    blocks: Sequence[StoredBlock], channels: Sequence[SelectedChannel], converters: Mapping[int, Converter]
) -> list[TelemetryChunk]:
    """The chunks of one commit, always in the same order: a cursor counts them."""
    chunks = list[TelemetryChunk]()
    for channel in channels:
        of_channel = [block for block in blocks if block.channel_id == channel.channel_id]
        for piece in merge_all(of_channel):
            for conversion, converted in converters[channel.channel_id].convert(piece):
                chunks.append(make_chunk(channel.channel, conversion, converted))
    return chunks
