"""Numbers the commits that have become visible, without gaps: the position is the cursor of live readers.

Commits become visible in another order than they began; a reader that went by commit_id would skip one. A single sealer
(leader by advisory lock) moves what it sees from `ingest_commits` to `ingest_commit_seals`. It is woken by NOTIFY, sent
after COMMIT by one coalescing task (inside the transaction it would halve the commit rate), with a poll behind it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import structlog

from services.background import Background

COMMITTED_CHANNEL, SEALED_CHANNEL = "rigmesh_committed", "rigmesh_sealed"
POLL_S = 1.0
COALESCE_S = 0.01
RETRY_S = 1.0
LEADER_LOCK = 0x52494753  # "RIGS"
BATCH = 10_000
log = structlog.get_logger("rigmesh.seals")


class Seals:
    """The sealer of this process, and the notice of its commits. It has connections of its own: it waits on them."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._committed = asyncio.Event()

    def committed(self) -> None:
        """Something was committed by this process."""
        self._committed.set()

    @contextlib.asynccontextmanager
    async def sealing(self, background: Background) -> AsyncIterator["Seals"]:
        """Notifies and, as the leader, seals while open."""
        notifying = background.running(_forever(self._notify), "notices of commits")
        async with notifying, background.running(_forever(self._lead), "sealer"):
            yield self

    async def _notify(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as db:
            while True:
                await self._committed.wait()
                self._committed.clear()
                await db.execute("SELECT pg_notify(%s, '')", (COMMITTED_CHANNEL,))
                await asyncio.sleep(COALESCE_S)

    async def _lead(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as db:
            await _become_leader(db)
            await db.execute(f"LISTEN {COMMITTED_CHANNEL}")
            while True:
                while await seal(db) == BATCH:
                    continue
                async for _ in db.notifies(timeout=POLL_S, stop_after=1):
                    pass


async def _become_leader(db: psycopg.AsyncConnection) -> None:
    # Asked again and again: one that blocks in pg_advisory_lock holds a snapshot, and with it back every VACUUM.
    while True:
        cursor = await db.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,))
        if await cursor.fetchone() == (True,):
            return
        await asyncio.sleep(POLL_S)


async def seal(db: psycopg.AsyncConnection) -> int:
    """Seals up to BATCH visible commits in one transaction; returns how many."""
    cursor = await db.execute(
        """WITH seen AS (
            DELETE FROM ingest_commits
            WHERE commit_id IN (SELECT commit_id FROM ingest_commits ORDER BY commit_id LIMIT %s)
            RETURNING commit_id, channel_ids, placed_from, placed_until
        ), last AS (SELECT coalesce(max(position), 0) AS position FROM ingest_commit_seals), sealed AS (
            INSERT INTO ingest_commit_seals (position, commit_id, channel_ids, placed_from, placed_until)
            SELECT last.position + row_number() OVER (ORDER BY commit_id), commit_id, channel_ids, placed_from,
                placed_until
            FROM seen, last RETURNING 1
        )
        SELECT count(*), CASE WHEN count(*) > 0 THEN pg_notify(%s, '')::text END FROM sealed""",
        (BATCH, SEALED_CHANNEL),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except psycopg.Error as error:
            log.warning("lost the database, trying again", error=str(error))
            await asyncio.sleep(RETRY_S)
