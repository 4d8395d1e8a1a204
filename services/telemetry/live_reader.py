"""One reader of StreamTelemetry: sends the history, then step by step what is committed."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1.telemetry_pb2 import StreamEnd, TelemetryChunk
from rigmesh.v1.telemetry_service_pb2 import Heartbeat, StreamTelemetryRequest, StreamTelemetryResponse
from services.db.page import seal, unseal
from services.db.pool import Connection
from services.rpc.call import Call
from services.telemetry.live import Cursor, commit_chunks, cursor_now, next_commits, snapshot
from services.telemetry.physical import Converter, converters_for
from services.telemetry.query import query_chunks
from services.telemetry.selection import SelectedChannel, select_channels
from services.telemetry.stored import Range
from services.telemetry.tail import Tail

HEARTBEAT_S, POLL_S = 10.0, 1.0


class LiveReader:
    """Where a reader stands."""

    def __init__(self, request: StreamTelemetryRequest, call: Call) -> None:
        self._request, self._call = request, call
        self._cursor = Cursor(0)
        self._samples = self._chunks = 0

    async def read(self, tail: Tail, stopping: asyncio.Event) -> AsyncIterator[StreamTelemetryResponse]:
        """Everything that the reader gets, until the server stops."""
        async for response in self._begin():
            yield response
        yield self._heartbeat()
        sent_at = time.monotonic()
        while not stopping.is_set():
            news = tail.news()
            before = self._cursor
            async for response in self._step():
                yield response
                sent_at = time.monotonic()
            if self._cursor == before:
                await _any_of(news, stopping, timeout_s=POLL_S)
            if time.monotonic() - sent_at > HEARTBEAT_S:
                yield self._heartbeat()
                sent_at = time.monotonic()
        end = StreamEnd(cause=StreamEnd.DRAINING, samples=self._samples, chunks=self._chunks)
        yield StreamTelemetryResponse(end=end, resume_token=self._token(self._cursor))

    async def _begin(self) -> AsyncIterator[StreamTelemetryResponse]:
        if self._request.resume_token:
            self._cursor = self._opened(self._request.resume_token)
            async with snapshot(self._call.pools.read) as db:
                await self._select(db)
            return
        async with snapshot(self._call.pools.scan) as db:
            self._cursor = await cursor_now(db)
            channels, converters = await self._select(db)
            if self._request.HasField("start_at"):
                wanted = Range(start_ns=self._request.start_at.ToNanoseconds())
                async for chunk in query_chunks(db, channels, converters, wanted):
                    yield self._sent(chunk, "")

    async def _step(self) -> AsyncIterator[StreamTelemetryResponse]:
        async with snapshot(self._call.pools.read) as db:
            commits = await next_commits(db, self._cursor)
            if not commits:
                return
            channels, converters = await self._select(db)
            step = await commit_chunks(db, commits, self._cursor, channels, converters)
        # The snapshot is given back before a slow reader takes its time.
        for chunk, after in step:
            yield self._sent(chunk, self._token(after))
        for commit in commits:
            self._cursor = self._cursor.after(commit)

    async def _select(self, db: Connection) -> tuple[Sequence[SelectedChannel], Mapping[int, Converter]]:
        channels = await select_channels(db, self._call.principal.user_id, self._request)
        return channels, await converters_for(db, channels, self._request.view)

    def _sent(self, chunk: TelemetryChunk, token: str) -> StreamTelemetryResponse:
        self._samples += len(chunk.time_ns)
        self._chunks += 1
        return StreamTelemetryResponse(chunk=chunk, resume_token=token)

    def _heartbeat(self) -> StreamTelemetryResponse:
        now = Timestamp()
        now.GetCurrentTime()
        return StreamTelemetryResponse(heartbeat=Heartbeat(server_at=now), resume_token=self._token(self._cursor))

    def _token(self, cursor: Cursor) -> str:
        return seal(self._call.key("resume"), self._binding(), [cursor.position, cursor.chunks, cursor.sent])

    def _opened(self, token: str) -> Cursor:
        position, chunks, sent = unseal(self._call.key("resume"), self._binding(), token)
        return Cursor(position, chunks, tuple(sent))

    def _binding(self) -> bytes:
        """What a token is good for: the same selection, by the same user."""
        selection = StreamTelemetryRequest()
        selection.CopyFrom(self._request)
        selection.ClearField("resume_token")
        selection.ClearField("start_at")
        user = self._call.principal.user_id.encode()
        return hashlib.sha256(user + selection.SerializeToString(deterministic=True)).digest()


async def _any_of(*events: asyncio.Event, timeout_s: float) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
