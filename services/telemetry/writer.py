"""Group commit: batches of all streams wait a few milliseconds for each other, then share one transaction."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from rigmesh.v1.error_reason_pb2 import UNSTORABLE
from services.db.pool import Pool
from services.telemetry.batches import Pending, Verdict
from services.telemetry.commit import commit_group
from services.telemetry.intake import encode_together
from services.telemetry.wakeup import Wakeup

GATHER_S = 0.005
GROUP_BYTES = 4 * 1024 * 1024
GROUP_BATCHES = 2000
BUFFER_BYTES = 64 * 1024 * 1024
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 5.0
WRITERS = 2
log = structlog.get_logger("rigmesh.writer")


class Writer:
    """One connection's queue. A lane always goes to the same writer, so that its batches meet in one group."""

    def __init__(self, pool: Pool, on_commit: Callable[[], None]) -> None:
        self._pool, self._on_commit = pool, on_commit
        self._waiting: list[Pending] = []
        self._bytes = 0
        self._changed = Wakeup()

    async def put(self, batch: Pending) -> None:
        """Queues a batch; waits while the buffer is full. Its verdict comes through `batch.done`."""
        await self._changed.until(lambda: self._bytes < BUFFER_BYTES // WRITERS)
        self._waiting.append(batch)
        self._bytes += batch.size_bytes
        self._changed.notify()

    async def run(self) -> None:
        """Commits groups until cancelled."""
        while True:
            group = await self._next_group()
            await self._commit(group)
            self._bytes -= sum(batch.size_bytes for batch in group if batch.done.done())
            # Batches whose lane another process has locked wait for the next group.
            self._waiting[:0] = [batch for batch in group if not batch.done.done()]
            self._changed.notify()

    async def _next_group(self) -> list[Pending]:
        await self._changed.until(lambda: self._waiting)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await self._changed.until(self._is_full)
        count, size = 0, 0
        while count < min(len(self._waiting), GROUP_BATCHES) and size < GROUP_BYTES:
            size += self._waiting[count].size_bytes
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _is_full(self) -> bool:
        return len(self._waiting) >= GROUP_BATCHES or self._bytes >= GROUP_BYTES

    async def _commit(self, group: Sequence[Pending]) -> None:
        """Commits, however long the database is away: nothing is acknowledged meanwhile, and senders are held back."""
        encode_together(group)
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await self._commit_or_split(group)
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
                log.warning("commit failed, trying again", error=str(error), batches=len(group))
                await asyncio.sleep(random.uniform(0, wait_s))  # noqa: S311 - jitter, not a secret
                wait_s = min(2 * wait_s, RETRY_MOST_S)
            else:
                return

    async def _commit_or_split(self, group: Sequence[Pending]) -> None:
        try:
            async with self._pool.connection() as db:
                answers = await commit_group(db, group)
        except psycopg.DataError as error:
            await self._split(group, error)
            return
        for batch, answer in answers:
            _answer(batch, answer)
        if any(isinstance(answer, Verdict) and answer.committed for _, answer in answers):
            self._on_commit()

    async def _split(self, group: Sequence[Pending], error: psycopg.DataError) -> None:
        """Finds the batch with the value that the database refuses, by halves, so that only that one is kept out."""
        if len(group) > 1:
            await self._commit_or_split(group[: len(group) // 2])
            await self._commit_or_split(group[len(group) // 2 :])
            return
        (batch,) = group
        if not batch.accepted:
            raise error
        log.error("a batch cannot be stored", error=str(error), lane_id=batch.lane_id, seq=batch.seq)
        text = "the database refused a value of this batch"
        batch.refusals += [accepted.refuse(UNSTORABLE, text) for accepted in batch.accepted]
        batch.accepted.clear()
        await self._commit_or_split(group)


class Writers:
    """All writers of a process."""

    def __init__(self, pool: Pool, on_commit: Callable[[], None]) -> None:
        self._writers = [Writer(pool, on_commit) for _ in range(WRITERS)]

    async def put(self, batch: Pending) -> None:
        """Queues a batch with its lane's writer."""
        await self._writers[batch.lane_id % WRITERS].put(batch)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Writers"]:
        """Commits while open."""
        tasks = [asyncio.create_task(writer.run()) for writer in self._writers]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _answer(batch: Pending, answer: Verdict | Exception) -> None:
    if batch.done.done():  # its stream is gone
        return
    if isinstance(answer, Verdict):
        batch.done.set_result(answer)
    else:
        batch.done.set_exception(answer)
