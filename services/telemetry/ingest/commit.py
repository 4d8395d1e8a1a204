"""The group commit: one READ COMMITTED transaction that stores batches of many streams, or nothing of them.

Locks are always taken in this order, and by id: lanes, sessions, session_channels, channels. So two commits never wait
for each other in a circle. A lane that is locked elsewhere is skipped: its batches wait for the next group.
"""

from collections.abc import Iterable, Sequence

from psycopg import sql
from psycopg.rows import class_row

from services.db.events import Event, append
from services.db.pool import Connection
from services.telemetry.blocks import COLUMNS, COPY_HEADER, COPY_TRAILER, Block, row_head
from services.telemetry.ingest import quarantine
from services.telemetry.ingest.batches import Accepted, Pending, Refusal, Verdict
from services.telemetry.ingest.lanes import Lane, from_multirange, pack_crcs, to_multirange, unpack_crcs
from services.telemetry.ingest.plan import Outcome, Session, plan

Stored = Sequence[tuple[Accepted, bool]]
# psycopg's own portion: larger ones it would cut, and copy, once more.
WRITE_BYTES = 96 * 1024


async def commit_group(db: Connection, group: Sequence[Pending]) -> list[tuple[Pending, Verdict | Exception]]:
    """Stores the batches of `group` whose lanes are free; returns what became of each of them after COMMIT.

    Raises psycopg.DataError with nothing stored when the database refuses a value.
    """
    async with db.transaction():
        lanes = await _lock_lanes(db, {batch.lane_id for batch in group})
        sessions = await _lock_sessions(db, _session_ids(group))
        known_reused = {lane.lane_id for lane in lanes.values() if lane.reused}
        outcomes = plan(group, lanes, sessions)
        stored = [pair for outcome in outcomes for pair in outcome.stored]
        if stored:
            await _store(db, stored, sessions)
        refusals = [await _refusals(db, outcome) for outcome in outcomes]
        await _note_reuse(db, {lane.lane_id for lane in lanes.values() if lane.reused} - known_reused)
        await _update_lanes(db, [lanes[lane_id] for lane_id in {outcome.batch.lane_id for outcome in outcomes}])
    return [
        (outcome.batch, outcome.error or _verdict(outcome, lanes[outcome.batch.lane_id], kept))
        for outcome, kept in zip(outcomes, refusals, strict=True)
    ]


async def _lock_lanes(db: Connection, lane_ids: Iterable[int]) -> dict[int, Lane]:
    cursor = await db.execute(
        """SELECT lane_id, holder, received::text, fingerprints, reused FROM ingest_lanes
        WHERE lane_id = ANY(%s) ORDER BY lane_id FOR UPDATE SKIP LOCKED""",
        (sorted(lane_ids),),
    )
    return {
        lane_id: Lane(lane_id, holder, from_multirange(received), unpack_crcs(crcs), reused)
        async for lane_id, holder, received, crcs, reused in cursor
    }


def _session_ids(group: Sequence[Pending]) -> set[str]:
    return {
        accepted.block.capture_session_id
        for batch in group
        for accepted in batch.accepted
        if accepted.block.capture_session_id
    }


async def _lock_sessions(db: Connection, ids: set[str]) -> dict[str, Session]:
    # A stop waits for this commit. Commits share a running session; one that has ended gets its revision raised, so it
    # is locked for that at once: two that share it could not both go on to write.
    running = await _lock_sessions_in(db, ids, ended=False) if ids else {}
    rest = ids - running.keys()
    return running | (await _lock_sessions_in(db, rest, ended=True) if rest else {})


async def _lock_sessions_in(db: Connection, ids: set[str], *, ended: bool) -> dict[str, Session]:
    strength = sql.SQL("NO KEY UPDATE" if ended else "SHARE")
    async with db.cursor(row_factory=class_row(Session)) as cursor:
        await cursor.execute(
            sql.SQL(
                """SELECT capture_session_id, CASE WHEN r.status = 'ARCHIVED' THEN r.status ELSE s.status END AS status,
                    s.ended_at
                FROM capture_sessions s JOIN runs r USING (run_id)
                WHERE capture_session_id = ANY(%s) AND (s.ended_at IS NULL OR %s)
                ORDER BY capture_session_id FOR {} OF s"""
            ).format(strength),
            (sorted(ids), ended),
        )
        return {session.capture_session_id: session async for session in cursor}


async def _store(db: Connection, stored: Stored, sessions: dict[str, Session]) -> None:
    blocks = [accepted.block for accepted, _ in stored]
    commit_id = await _insert_commit(db, blocks)
    await _copy_blocks(db, commit_id, stored)
    async with db.pipeline():
        await _add_to_session_channels(db, stored)
        await _raise_spans(db, blocks)
        # Not only by late samples: what came before the end and is committed after it changes the session's data, too.
        ended = {key for key, session in sessions.items() if session.ended_at is not None}
        amended = ended & {accepted.block.capture_session_id for accepted, _ in stored}
        if amended:
            await db.execute(
                "UPDATE capture_sessions SET data_revision = data_revision + 1 WHERE capture_session_id = ANY(%s)",
                (sorted(amended),),
            )


async def _insert_commit(db: Connection, blocks: Sequence[Block]) -> int:
    cursor = await db.execute(
        """INSERT INTO ingest_commits (channel_ids, placed_from, placed_until)
        VALUES (%s, to_timestamp(%s / 1e6), to_timestamp(%s / 1e6)) RETURNING commit_id""",
        (
            sorted({block.channel_id for block in blocks}),
            min(block.placed_us for block in blocks) - 1,
            max(block.placed_us for block in blocks) + 1,
        ),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _copy_blocks(db: Connection, commit_id: int, stored: Stored) -> None:
    heads = {late: row_head(commit_id, late) for late in (False, True)}
    parts, size = [COPY_HEADER], 0
    async with db.cursor() as cursor, cursor.copy(f"COPY sample_blocks ({COLUMNS}) FROM STDIN (FORMAT binary)") as copy:
        for accepted, late in stored:
            row = accepted.block.row
            parts += (heads[late], row)
            size += len(row)
            if size >= WRITE_BYTES:
                await copy.write(b"".join(parts))
                parts, size = [], 0
        await copy.write(b"".join((*parts, COPY_TRAILER)))


async def _add_to_session_channels(db: Connection, stored: Stored) -> None:
    totals: dict[tuple[int, str], list[Block]] = {}
    late: dict[tuple[int, str], int] = {}
    for accepted, is_late in stored:
        block = accepted.block
        key = (block.channel_id, block.capture_session_id)
        totals.setdefault(key, []).append(block)
        late[key] = late.get(key, 0) + (block.n if is_late else 0)
    keys = sorted(totals)
    lows = [[block.v_min for block in totals[key] if block.v_min is not None] for key in keys]
    highs = [[block.v_max for block in totals[key] if block.v_max is not None] for key in keys]
    await db.execute(
        """INSERT INTO session_channels AS c (channel_id, capture_session_id, n, late, first_at, last_at, v_min, v_max,
            last_received_at, last_placed_at)
        SELECT u.channel_id, u.session, u.n, u.late, to_timestamp(u.first_us / 1e6), to_timestamp(u.last_us / 1e6),
            u.low, u.high, now(), to_timestamp(u.placed_us / 1e6)
        FROM unnest(%s::int[], %s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::float8[],
            %s::float8[], %s::bigint[]) AS u (channel_id, session, n, late, first_us, last_us, low, high, placed_us)
        ON CONFLICT (channel_id, capture_session_id) DO UPDATE SET
            n = c.n + excluded.n, late = c.late + excluded.late,
            first_at = least(c.first_at, excluded.first_at), last_at = greatest(c.last_at, excluded.last_at),
            v_min = least(c.v_min, excluded.v_min), v_max = greatest(c.v_max, excluded.v_max),
            last_received_at = excluded.last_received_at, last_placed_at = excluded.last_placed_at""",
        (
            [channel_id for channel_id, _ in keys],
            [session or None for _, session in keys],
            [sum(block.n for block in totals[key]) for key in keys],
            [late[key] for key in keys],
            [min(block.placed_us for block in totals[key]) for key in keys],
            [max(block.until_us for block in totals[key]) for key in keys],
            [min(values, default=None) for values in lows],
            [max(values, default=None) for values in highs],
            [totals[key][-1].placed_us for key in keys],
        ),
    )


async def _raise_spans(db: Connection, blocks: Sequence[Block]) -> None:
    spans: dict[int, int] = {}
    for block in blocks:
        spans[block.channel_id] = max(block.span_ns, spans.get(block.channel_id, 0))
    ids = sorted(spans)
    await db.execute(
        """UPDATE channels SET max_span_ns = u.span_ns FROM (
            SELECT channel_id, u.span_ns FROM unnest(%s::int[], %s::bigint[]) AS u (id, span_ns)
            JOIN channels ON channel_id = id WHERE u.span_ns > max_span_ns ORDER BY id FOR NO KEY UPDATE OF channels
        ) u WHERE channels.channel_id = u.channel_id AND u.span_ns > max_span_ns""",
        (ids, [spans[channel_id] for channel_id in ids]),
    )


async def _refusals(db: Connection, outcome: Outcome) -> tuple[tuple[Refusal, str], ...]:
    if outcome.deduplicated:
        # A repeated batch gets the answer of the first time.
        return await quarantine.recall(db, outcome.batch)
    return await quarantine.keep(db, outcome.batch, outcome.refused)


async def _note_reuse(db: Connection, lane_ids: Iterable[int]) -> None:
    """A device that restarted its numbering is worth an entry in the audit trail, once."""
    happened = [Event(None, "telemetry.epoch_reused", "lane", str(lane_id), None, None) for lane_id in sorted(lane_ids)]
    if happened:
        await append(db, happened, actor="telemetry", request_id="")


async def _update_lanes(db: Connection, lanes: Sequence[Lane]) -> None:
    await db.execute(
        """UPDATE ingest_lanes l SET received = u.received::int8multirange, fingerprints = u.crcs, reused = u.reused
        FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::boolean[]) AS u (lane_id, received, crcs, reused)
        WHERE l.lane_id = u.lane_id""",
        (
            [lane.lane_id for lane in lanes],
            [to_multirange(lane.received) for lane in lanes],
            [pack_crcs(lane.crcs) for lane in lanes],
            [lane.reused for lane in lanes],
        ),
    )


def _verdict(outcome: Outcome, lane: Lane, refusals: tuple[tuple[Refusal, str], ...]) -> Verdict:
    return Verdict(
        received=lane.received,
        committed=sum(accepted.block.n for accepted, _ in outcome.stored),
        late=sum(accepted.block.n for accepted, late in outcome.stored if late),
        deduplicated=outcome.batch.samples if outcome.deduplicated else 0,
        refusals=refusals,
    )
