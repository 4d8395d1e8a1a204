"""Group commit: batches of all streams wait a few milliseconds for each other, then share one transaction."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import psycopg
import structlog
from psycopg_pool import PoolTimeout, TooManyRequests

from rigmesh.v1.error_reason_pb2 import UNSTORABLE
from services.background import Background
from services.db.pool import Pool
from services.telemetry.ingest.batches import NotStoredError, Pending, Verdict
from services.telemetry.ingest.commit import commit_group
from services.telemetry.ingest.intake import CHUNK_US, encode_together
from services.telemetry.ingest.wakeup import Wakeup

GATHER_S = 0.005
GROUP_BYTES = 4 * 1024 * 1024
GROUP_BATCHES = 2000
BUFFER_BYTES = 64 * 1024 * 1024
GROUP_CHUNKS = 64
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 5.0
# Connection lost, server stopping, conflict of transactions; too many connections, lock or statement time-out, standby.
PASSING_CLASSES = ("08", "57P", "40")
PASSING_STATES = ("53300", "55P03", "57014", "25006")
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
            _encode(group)
            for portion in bounded(group):
                await self._commit(portion)
            self._bytes -= sum(batch.size_bytes for batch in group if batch.done.done())
            held_elsewhere = [batch for batch in group if not batch.done.done()]
            if held_elsewhere:
                self._waiting[:0] = held_elsewhere
                await asyncio.sleep(GATHER_S)
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
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await self._commit_once(group)
            except Exception as error:
                too_slow = isinstance(error, psycopg.errors.QueryCanceled) and len(group) > 1
                if too_slow or not is_passing(error):
                    await self._split(group, error)
                    return
                log.warning("commit failed, trying again", error=str(error), batches=len(group))
                await asyncio.sleep(random.uniform(0, wait_s))  # noqa: S311 - jitter, not a secret
                wait_s = min(2 * wait_s, RETRY_MOST_S)
            else:
                return

    async def _commit_once(self, group: Sequence[Pending]) -> None:
        async with self._pool.connection() as db:
            answers = await commit_group(db, group)
        for batch, answer in answers:
            _answer(batch, answer)
        if any(isinstance(answer, Verdict) and answer.committed for _, answer in answers):
            self._on_commit()

    async def _split(self, group: Sequence[Pending], error: Exception) -> None:
        """Finds the batch that the database refuses, by halves, so that only that one is kept out."""
        if len(group) > 1:
            await self._commit(group[: len(group) // 2])
            await self._commit(group[len(group) // 2 :])
            return
        (batch,) = group
        log.error("a batch cannot be stored", lane_id=batch.lane_id, seq=batch.seq, exc_info=error)
        if batch.accepted:
            batch.refuse_whole(UNSTORABLE, "the database refuses a value of this batch")
            await self._commit(group)
        else:
            _answer(batch, NotStoredError())


class Writers:
    """All writers of a process."""

    def __init__(self, pool: Pool, on_commit: Callable[[], None]) -> None:
        self._writers = [Writer(pool, on_commit) for _ in range(WRITERS)]

    async def put(self, batch: Pending) -> None:
        """Queues a batch with its lane's writer."""
        await self._writers[batch.lane_id % WRITERS].put(batch)

    @contextlib.asynccontextmanager
    async def running(self, background: Background) -> AsyncIterator["Writers"]:
        """Commits while open."""
        async with contextlib.AsyncExitStack() as stack:
            for number, writer in enumerate(self._writers):
                await stack.enter_async_context(background.running(writer.run(), f"writer {number}"))
            yield self


def is_passing(error: Exception) -> bool:
    """Whether the database is away, stopping, busy or changing hands: the same batches will be taken later."""
    if isinstance(error, PoolTimeout | TooManyRequests | psycopg.InterfaceError):
        return True
    state = getattr(error, "sqlstate", None)
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(PASSING_CLASSES) or state in PASSING_STATES


def bounded(group: Sequence[Pending]) -> Iterator[Sequence[Pending]]:
    """Portions that touch a bounded number of time chunks each: every chunk of a commit costs locks."""
    portion, chunks = list[Pending](), set[int]()
    for batch in group:
        touched = {accepted.block.placed_us // CHUNK_US for accepted in batch.accepted}
        if portion and len(chunks | touched) > GROUP_CHUNKS:
            yield portion
            portion, chunks = [], set()
        portion.append(batch)
        chunks |= touched
    yield portion


def _encode(group: Sequence[Pending]) -> None:
    try:
        encode_together(group)
    except Exception as error:
        # A fault of ours must cost one batch, not the stream of every device.
        log.error("a group could not be encoded", exc_info=error)
        for batch in group:
            if batch.taken:  # one that waited for its lane was encoded before
                _encode_alone(batch)


def _encode_alone(batch: Pending) -> None:
    try:
        batch.accepted.clear()
        encode_together([batch])
    except Exception as error:
        log.error("a batch cannot be encoded", lane_id=batch.lane_id, seq=batch.seq, exc_info=error)
        batch.refuse_whole(UNSTORABLE, "this batch cannot be encoded")


def _answer(batch: Pending, answer: Verdict | Exception) -> None:
    if batch.done.done():  # its stream is gone
        return
    if isinstance(answer, Verdict):
        batch.done.set_result(answer)
    else:
        batch.done.set_exception(answer)
