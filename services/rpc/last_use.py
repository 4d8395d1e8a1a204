"""Notes when credentials were last used: at most one write a credential and flush, outside of the calls themselves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from services.background import Background
from services.db.pool import Pool
from services.rpc.call import Kind, Principal

FLUSH_S = 20.0
log = structlog.get_logger("rigmesh.last_use")

_UPDATES = {
    Kind.SESSION: "UPDATE sessions SET last_used_at = now() WHERE session_id = ANY(%s)",
    Kind.API_TOKEN: "UPDATE api_tokens SET last_used_at = now() WHERE api_token_id = ANY(%s)",
    Kind.SENSOR: "UPDATE sensor_tokens SET last_used_at = now() WHERE sensor_token_id = ANY(%s)",
}


class LastUse:
    """Collects between flushes; the set is bounded by the credentials that exist."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._used: dict[Kind, set[str]] = {kind: set() for kind in _UPDATES}

    def note(self, principal: Principal) -> None:
        """A call of this principal was let in."""
        if principal.kind in self._used:
            self._used[principal.kind].add(principal.credential_id)

    async def run(self) -> None:
        """Flushes until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what was collected; kept for the next time when the database is away."""
        for kind, statement in _UPDATES.items():
            ids, self._used[kind] = self._used[kind], set()
            if not ids:
                continue
            try:
                async with self._pool.connection() as db:
                    await db.execute(statement, (sorted(ids),))
            except (psycopg.Error, PoolTimeout) as error:
                self._used[kind] |= ids
                log.warning("last use not written", error=str(error))


@contextlib.asynccontextmanager
async def open_last_use(pool: Pool, background: Background) -> AsyncIterator[LastUse]:
    """A collector that flushes while open, and once more at the end."""
    last_use = LastUse(pool)
    try:
        async with background.running(last_use.run(), "last use of credentials"):
            yield last_use
    finally:
        await last_use.flush()
