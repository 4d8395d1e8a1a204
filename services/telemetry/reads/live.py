"""StreamTelemetry: history from a point, then what is committed, without a seam.

The cursor is the position of a sealed commit. Each step reads, in one snapshot, the next sealed commits and some of
their blocks; a slow reader just takes its steps later. The history's snapshot may hold commits that are not sealed yet:
they are named in the cursor, and left out when their turn comes.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from psycopg import IsolationLevel, sql
from psycopg.rows import class_row

from rigmesh.v1.telemetry_pb2 import TelemetryChunk
from services.db.pool import Connection, Pool
from services.telemetry.reads.chunks import make_chunk
from services.telemetry.reads.merge import Piece, merge_all
from services.telemetry.reads.physical import Converter
from services.telemetry.reads.selection import SelectedChannel, Selector, selected_among
from services.telemetry.reads.stored import StoredBlock, fetch_blocks

# In one step so many commits are looked at, so many are read, and so many samples of them.
LOOKED_AT, READ_AT_ONCE, STEP_SAMPLES = 256, 8, 65_536
# So many fit into a resume token of 1024 characters.
MOST_UNSEALED = 32
# Stands for NULL, which `IN` does not find.
NO_SESSION = "00000000-0000-0000-0000-000000000000"

VISIBLE = sql.SQL(
    """commit_id = ANY(%(commits)s) AND placed_at BETWEEN %(placed_from)s AND %(placed_until)s
    AND (channel_id, coalesce(capture_session_id, '00000000-0000-0000-0000-000000000000')) IN (
        SELECT * FROM unnest(%(channels)s::int[], %(sessions)s::uuid[]))
    AND channel_id = ANY(%(channels)s)"""
)


@dataclass(frozen=True)
class Cursor:
    """Where a reader stands: `position` is of the last commit that was sent whole.

    Of the next one channels below `channel_id` were sent, and so many samples of that one: ids and samples of a commit
    never change, while how they are cut into chunks does. `sent` names commits that were sent as history.
    """

    position: int
    channel_id: int = 0
    samples: int = 0
    sent: tuple[int, ...] = ()

    def after(self, commit: "Commit") -> "Cursor":
        """The cursor when a commit was sent whole."""
        return Cursor(commit.position, 0, 0, tuple(other for other in self.sent if other != commit.commit_id))


@dataclass(frozen=True)
class Commit:
    """A sealed commit: which channels it wrote to, and where on the time axis."""

    position: int
    commit_id: int
    channel_ids: list[int]
    placed_from: datetime
    placed_until: datetime


@dataclass(frozen=True)
class Part:
    """One channel of one commit, with the cursor of a reader that comes to it."""

    cursor: Cursor
    commit: Commit
    channel: SelectedChannel
    blocks: list[StoredBlock] = field(default_factory=list)

    def chunks(self, converter: Converter) -> Iterator[tuple[TelemetryChunk, Cursor]]:
        """The chunks that the reader has not had, each with the cursor after it."""
        cursor = self.cursor
        for piece in _after(cursor.samples, merge_all(self.blocks)):
            for conversion, converted in converter.convert(piece):
                cursor = replace(cursor, samples=cursor.samples + len(converted.time_ns))
                yield make_chunk(self.channel.channel, conversion, converted), cursor


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


async def cursor_now(db: Connection) -> Cursor | None:
    """The cursor after everything that this snapshot sees; None while too much of it is not sealed yet."""
    result = await db.execute(
        """SELECT coalesce((SELECT max(position) FROM ingest_commit_seals), 0),
            ARRAY(SELECT commit_id FROM ingest_commits ORDER BY commit_id LIMIT %s)""",
        (MOST_UNSEALED + 1,),
    )
    row = await result.fetchone()
    assert row is not None
    return Cursor(row[0], sent=tuple(row[1])) if len(row[1]) <= MOST_UNSEALED else None


async def next_commits(db: Connection, cursor: Cursor, request: Selector) -> tuple[Sequence[Commit], set[int]]:
    """The next commits after a cursor, up to the last one to read, and the ids of those that the request is about."""
    async with db.cursor(row_factory=class_row(Commit)) as result:
        await result.execute(
            """SELECT position, commit_id, channel_ids, placed_from, placed_until FROM ingest_commit_seals
            WHERE position > %s ORDER BY position LIMIT %s""",
            (cursor.position, LOOKED_AT),
        )
        commits = await result.fetchall()
    fresh = [commit for commit in commits if commit.commit_id not in cursor.sent]
    channel_ids = {channel_id for commit in fresh for channel_id in commit.channel_ids}
    selected = await selected_among(db, request, channel_ids) if channel_ids else set()
    wanted = [commit for commit in fresh if not selected.isdisjoint(commit.channel_ids)]
    if len(wanted) > READ_AT_ONCE:
        wanted = wanted[:READ_AT_ONCE]
        commits = [commit for commit in commits if commit.position <= wanted[-1].position]
    return commits, {commit.commit_id for commit in wanted}


def pass_over(cursor: Cursor, commits: Sequence[Commit]) -> Cursor:
    """The cursor after commits of which nothing is left to send."""
    for commit in commits:
        cursor = cursor.after(commit)
    return cursor


async def next_parts(
    db: Connection, commits: Sequence[Commit], wanted: set[int], cursor: Cursor, channels: Sequence[SelectedChannel]
) -> tuple[Sequence[Part], Cursor]:
    """What comes next, about STEP_SAMPLES or one part, and where the reader stands then."""
    sizes = await _sizes(db, channels, [commit for commit in commits if commit.commit_id in wanted])
    by_id = sorted(channels, key=lambda channel: channel.channel_id)
    parts, held = list[Part](), 0
    for commit in commits:
        for channel in by_id:
            size = sizes.get((commit.commit_id, channel.channel_id), 0)
            if not size or channel.channel_id < cursor.channel_id:
                continue
            if channel.channel_id > cursor.channel_id:
                cursor = replace(cursor, channel_id=channel.channel_id, samples=0)
            if parts and held + size > STEP_SAMPLES:
                return await _filled(db, channels, parts), cursor
            parts.append(Part(cursor, commit, channel))
            held += size
        cursor = cursor.after(commit)
    return await _filled(db, channels, parts), cursor


async def _sizes(
    db: Connection, channels: Sequence[SelectedChannel], commits: Sequence[Commit]
) -> dict[tuple[int, int], int]:
    query = sql.SQL("SELECT commit_id, channel_id, sum(n) FROM sample_blocks WHERE {} GROUP BY 1, 2").format(VISIBLE)
    result = await db.execute(query, _visible(channels, commits))
    return {(commit_id, channel_id): int(size) async for commit_id, channel_id, size in result}


async def _filled(db: Connection, channels: Sequence[SelectedChannel], parts: Sequence[Part]) -> Sequence[Part]:
    """The same parts, with their blocks."""
    if parts:
        where = sql.SQL(
            "{} AND (commit_id, channel_id) IN (SELECT * FROM unnest(%(of_commits)s::bigint[], %(of_channels)s::int[]))"
        ).format(VISIBLE)
        pairs = {
            "of_commits": [part.commit.commit_id for part in parts],
            "of_channels": [part.channel.channel_id for part in parts],
        }
        of = {(part.commit.commit_id, part.channel.channel_id): part.blocks for part in parts}
        for block in await fetch_blocks(db, where, _visible(channels, [part.commit for part in parts]) | pairs):
            of[block.commit_id, block.channel_id].append(block)
    return parts


def _visible(channels: Sequence[SelectedChannel], commits: Sequence[Commit]) -> dict[str, object]:
    visible = [(channel.channel_id, session) for channel in channels for session in channel.sessions]
    return {
        "commits": [commit.commit_id for commit in commits],
        "placed_from": min(commit.placed_from for commit in commits),
        "placed_until": max(commit.placed_until for commit in commits),
        "channels": [channel_id for channel_id, _ in visible],
        "sessions": [session or NO_SESSION for _, session in visible],
    }


def _after(samples: int, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces without their first samples."""
    for piece in pieces:
        n = len(piece.time_ns)
        if samples < n:
            yield piece.part(samples, n)
        samples = max(samples - n, 0)
