"""One reader of StreamTelemetry: sends the history, then step by step what is committed."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import astuple

from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1.error_reason_pb2 import UNAVAILABLE
from rigmesh.v1.telemetry_pb2 import StreamEnd, TelemetryChunk
from rigmesh.v1.telemetry_service_pb2 import Heartbeat, StreamTelemetryRequest, StreamTelemetryResponse
from services.db.page import seal, unseal
from services.db.pool import Connection
from services.errors import Unavailable
from services.rpc.call import Call
from services.telemetry.reads.live import Cursor, cursor_now, next_commits, next_parts, pass_over, snapshot
from services.telemetry.reads.physical import Converter, converters_for
from services.telemetry.reads.query import query_chunks
from services.telemetry.reads.selection import SelectedChannel, select_channels
from services.telemetry.reads.stored import Range
from services.telemetry.reads.tail import Tail
from services.telemetry.reads.watch import Watch

HEARTBEAT_S, POLL_S = 10.0, 1.0
SEALED_WITHIN_S = 5.0


class LiveReader:
    """Where a reader stands."""

    def __init__(self, request: StreamTelemetryRequest, call: Call, tail: Tail, stopping: asyncio.Event) -> None:
        self._request, self._call = request, call
        self._tail, self._stopping = tail, stopping
        self._cursor = Cursor(0)
        self._samples = self._chunks = 0

    async def read(self) -> AsyncGenerator[StreamTelemetryResponse, None]:
        """Everything that the reader gets, until the server stops."""
        async with aclosing(self._begin()) as history:
            async for response in history:
                yield response
        yield self._heartbeat()
        sent_at = time.monotonic()
        while not self._stopping.is_set():
            news = self._tail.news()
            before = self._cursor
            async with aclosing(self._step()) as step:
                async for response in step:
                    yield response
                    sent_at = time.monotonic()
            if self._cursor == before:
                await _any_of(news, self._stopping, timeout_s=POLL_S)
            if time.monotonic() - sent_at > HEARTBEAT_S:
                yield self._heartbeat()
                sent_at = time.monotonic()
        end = StreamEnd(cause=StreamEnd.DRAINING, samples=self._samples, chunks=self._chunks)
        yield StreamTelemetryResponse(end=end, resume_token=self._token(self._cursor))

    async def _begin(self) -> AsyncGenerator[StreamTelemetryResponse, None]:
        if self._request.resume_token:
            self._cursor = self._opened(self._request.resume_token)
            async with snapshot(self._call.pools.read) as db:
                await self._select(db)
            return
        give_up_at = time.monotonic() + SEALED_WITHIN_S
        while time.monotonic() < give_up_at:
            news = self._tail.news()
            async with snapshot(self._call.pools.scan) as db:
                cursor = await cursor_now(db)
                if cursor is not None:
                    self._cursor = cursor
                    async with aclosing(self._history(db)) as history:
                        async for response in history:
                            yield response
                    return
            await _any_of(news, self._stopping, timeout_s=POLL_S)
        raise Unavailable(UNAVAILABLE, "too many commits are not numbered yet", retry_after_s=POLL_S)

    async def _history(self, db: Connection) -> AsyncGenerator[StreamTelemetryResponse, None]:
        channels, converters = await self._select(db)
        if not self._request.HasField("start_at"):
            return
        wanted = Range(start_ns=max(self._request.start_at.ToNanoseconds(), 0))
        watch = Watch(self._call, self._request, channels, self._stopping)
        async with aclosing(query_chunks(db, channels, converters, wanted)) as chunks:
            async for chunk in chunks:
                yield self._sent(chunk, "")
                await watch.check()

    async def _step(self) -> AsyncGenerator[StreamTelemetryResponse, None]:
        async with snapshot(self._call.pools.read) as db:
            commits, wanted = await next_commits(db, self._cursor, self._request)
            if not wanted:
                self._cursor = pass_over(self._cursor, commits)
                return
            channels, converters = await self._select(db)
            parts, after = await next_parts(db, commits, wanted, self._cursor, channels)
        # The snapshot is given back before a slow reader takes its time.
        for part in parts:
            for chunk, cursor in part.chunks(converters[part.channel.channel_id]):
                yield self._sent(chunk, self._token(cursor))
        self._cursor = after

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
        return seal(self._call.key("resume"), self._binding(), list(astuple(cursor)))

    def _opened(self, token: str) -> Cursor:
        position, channel_id, samples, sent = unseal(self._call.key("resume"), self._binding(), token)
        return Cursor(position, channel_id, samples, tuple(sent))

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
