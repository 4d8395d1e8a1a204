"""QueryTelemetry: chunks of many channels, by the time of their first sample, with bounded memory."""

import heapq
from collections.abc import AsyncIterator, Mapping, Sequence

from rigmesh.v1.telemetry_pb2 import TelemetryChunk
from services.db.pool import Connection
from services.telemetry.chunks import make_chunk
from services.telemetry.merge import coalesced, merged
from services.telemetry.physical import Converter
from services.telemetry.selection import SelectedChannel
from services.telemetry.stored import Range, read_blocks

BUDGET_BYTES = 32 * 1024 * 1024


async def query_chunks(
    db: Connection, channels: Sequence[SelectedChannel], converters: Mapping[int, Converter], wanted: Range
) -> AsyncIterator[TelemetryChunk]:
    """All samples of the channels in a range. Needs an open transaction, whose snapshot it reads."""
    budget = BUDGET_BYTES // max(len(channels), 1)
    sources = [_chunks(db, channel, converters[channel.channel_id], wanted, budget) for channel in channels]
    queue: list[tuple[int, int, TelemetryChunk]] = []
    for number, source in enumerate(sources):
        await _push(queue, number, source)
    while queue:
        _, number, chunk = heapq.heappop(queue)
        yield chunk
        await _push(queue, number, sources[number])


async def _push(
    queue: list[tuple[int, int, TelemetryChunk]], number: int, source: AsyncIterator[TelemetryChunk]
) -> None:
    chunk = await anext(source, None)
    if chunk is not None:
        heapq.heappush(queue, (chunk.time_ns[0], number, chunk))


async def _chunks(
    db: Connection, channel: SelectedChannel, converter: Converter, wanted: Range, budget_bytes: int
) -> AsyncIterator[TelemetryChunk]:
    blocks = read_blocks(db, channel, wanted, budget_bytes)
    async for piece in coalesced(merged(blocks, wanted)):
        for conversion, converted in converter.convert(piece):
            yield make_chunk(channel.channel, conversion, converted)
