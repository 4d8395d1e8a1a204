"""Wakes the live readers of a process when commits were sealed, wherever that happened."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import structlog

from services.background import Background
from services.telemetry.ingest.seals import RETRY_S, SEALED_CHANNEL

log = structlog.get_logger("rigmesh.tail")


class Tail:
    """One listening connection for all readers."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """An event that is set by the next news; ask before looking at the database, so that none is missed."""
        return self._news

    async def listen(self) -> None:
        """Listens until cancelled. While the database is away readers go by their poll."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as db:
                    await db.execute(f"LISTEN {SEALED_CHANNEL}")
                    async for _ in db.notifies():
                        self._wake()
            except psycopg.Error as error:
                log.warning("lost the database, trying again", error=str(error))
                await asyncio.sleep(RETRY_S)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


@contextlib.asynccontextmanager
async def following(database_url: str, background: Background) -> AsyncIterator[Tail]:
    """A tail that listens while open."""
    tail = Tail(database_url)
    async with background.running(tail.listen(), "tail of commits"):
        yield tail
