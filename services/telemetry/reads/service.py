"""TelemetryService: samples, read back."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from rigmesh.v1.error_reason_pb2 import LIMIT_EXCEEDED
from rigmesh.v1.telemetry_pb2 import StreamEnd
from rigmesh.v1.telemetry_service_pb2 import (
    GetLatestRequest,
    GetLatestResponse,
    GetSeriesRequest,
    GetSeriesResponse,
    ListChannelsRequest,
    ListChannelsResponse,
    QueryTelemetryRequest,
    QueryTelemetryResponse,
    StreamTelemetryRequest,
    StreamTelemetryResponse,
)
from services.background import Background
from services.db.page import open_page
from services.errors import ResourceExhausted, invalid_field
from services.rpc.call import Call
from services.settings import Settings
from services.telemetry.reads.channel_list import list_channels
from services.telemetry.reads.decimate import decimate
from services.telemetry.reads.latest import latest_sample
from services.telemetry.reads.live import snapshot
from services.telemetry.reads.live_reader import LiveReader
from services.telemetry.reads.physical import converters_for
from services.telemetry.reads.query import query_chunks
from services.telemetry.reads.selection import select_channels
from services.telemetry.reads.stored import FOREVER_NS, Range
from services.telemetry.reads.tail import Tail, following
from services.telemetry.reads.watch import Watch

# A point takes up to 42 bytes: more would not fit into a message.
DEFAULT_POINTS, MOST_POINTS = 1000, 80_000


class TelemetryService:
    """Reads of this process. `tail` is woken when commits were sealed."""

    def __init__(self, tail: Tail, stopping: asyncio.Event) -> None:
        self._tail, self._stopping = tail, stopping

    async def QueryTelemetry(
        self, request: QueryTelemetryRequest, call: Call
    ) -> AsyncGenerator[QueryTelemetryResponse, None]:
        samples = chunks = 0
        wanted = _range(request)
        async with snapshot(call.pools.scan) as db:
            channels = await select_channels(db, call.principal.user_id, request)
            converters = await converters_for(db, channels, request.view)
            watch = Watch(call, request, channels, self._stopping)
            async with aclosing(query_chunks(db, channels, converters, wanted)) as answer:
                async for chunk in answer:
                    samples, chunks = samples + len(chunk.time_ns), chunks + 1
                    yield QueryTelemetryResponse(chunk=chunk)
                    await watch.check()
        yield QueryTelemetryResponse(end=StreamEnd(cause=StreamEnd.COMPLETE, samples=samples, chunks=chunks))

    async def GetSeries(self, request: GetSeriesRequest, call: Call) -> GetSeriesResponse:
        wanted, lttb = _range(request), request.method == GetSeriesRequest.LTTB
        channels = await select_channels(call.db, call.principal.user_id, request)
        points = _points(request, len(channels))
        converters = await converters_for(call.db, channels, request.view)
        return GetSeriesResponse(
            series=[
                await decimate(call.db, channel, converters[channel.channel_id], wanted, points, lttb)
                for channel in channels
            ]
        )

    async def GetLatest(self, request: GetLatestRequest, call: Call) -> GetLatestResponse:
        channels = await select_channels(call.db, call.principal.user_id, request)
        converters = await converters_for(call.db, channels, request.view)
        samples = [await latest_sample(call.db, channel, converters[channel.channel_id]) for channel in channels]
        return GetLatestResponse(samples=[sample for sample in samples if sample is not None])

    async def ListChannels(self, request: ListChannelsRequest, call: Call) -> ListChannelsResponse:
        page = open_page(request, call.key("page"))
        rows = await list_channels(call.db, call.principal.user_id, request, page)
        channels, token = page.cut(rows, lambda channel: channel.channel)
        return ListChannelsResponse(channels=channels, next_page_token=token)

    async def StreamTelemetry(
        self, request: StreamTelemetryRequest, call: Call
    ) -> AsyncGenerator[StreamTelemetryResponse, None]:
        async with aclosing(LiveReader(request, call, self._tail, self._stopping).read()) as responses:
            async for response in responses:
                yield response


@contextlib.asynccontextmanager
async def open_reads(
    settings: Settings, stopping: asyncio.Event, background: Background
) -> AsyncIterator[TelemetryService]:
    """The service, woken by new commits."""
    async with following(settings.database_url, background) as tail:
        yield TelemetryService(tail, stopping)


def _range(request: QueryTelemetryRequest | GetSeriesRequest) -> Range:
    start_ns = request.start_at.ToNanoseconds() if request.HasField("start_at") else 0
    end_ns = request.end_at.ToNanoseconds() if request.HasField("end_at") else FOREVER_NS
    if end_ns <= start_ns:
        raise invalid_field("end_at", "must be after start_at")
    return Range(max(start_ns, 0), min(end_ns, FOREVER_NS))


def _points(request: GetSeriesRequest, channels: int) -> int:
    """The most points of each channel."""
    fitting = MOST_POINTS // max(channels, 1)
    if request.max_points > fitting:
        text = f"more than {MOST_POINTS} points: ask for fewer channels, or for at most {fitting} points of each"
        raise ResourceExhausted(LIMIT_EXCEEDED, text, metadata={"limit": "points", "max": str(MOST_POINTS)})
    return request.max_points or min(DEFAULT_POINTS, fitting)
