"""QueryTelemetry: chunks of many channels, by the time of their first sample, with bounded memory.

The range is read window by window, and within a window channel by channel. A window ends where the memory for samples
would overflow, so however many channels there are, one cursor is open at a time and nothing waits for a slow reader.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np

from rigmesh.v1.telemetry_pb2 import TelemetryChunk
from services.db.pool import Connection
from services.telemetry.reads.chunks import make_chunk
from services.telemetry.reads.merge import Piece, coalesced, merged
from services.telemetry.reads.physical import Converter
from services.telemetry.reads.selection import SelectedChannel
from services.telemetry.reads.stored import Range, read_blocks

# 16 bytes each as they are held, as much again as chunks.
WINDOW_SAMPLES = 524_288
MOST_GROWTH = 64


async def query_chunks(
    db: Connection, channels: Sequence[SelectedChannel], converters: Mapping[int, Converter], wanted: Range
) -> AsyncGenerator[TelemetryChunk, None]:
    """All samples of the channels in a range. Needs an open transaction, whose snapshot it reads."""
    start_ns, end_ns = wanted.start_ns, wanted.end_ns
    while start_ns < wanted.end_ns:
        window = _Window(start_ns, end_ns)
        for channel in channels:
            await window.read(db, channel)
        for chunk in window.chunks(channels, converters):
            yield chunk
        # The next one is as wide as half of the memory would have taken, so that it rarely has to be shortened.
        growth = max(1, min(WINDOW_SAMPLES // (2 * max(window.held, 1)), MOST_GROWTH))
        start_ns, end_ns = window.end_ns, min(window.end_ns + growth * (window.end_ns - start_ns), wanted.end_ns)


@dataclass
class _Window:
    """A stretch of time with its samples by channel_id. It becomes shorter where there are too many."""

    start_ns: int
    end_ns: int
    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    held: int = 0

    async def read(self, db: Connection, channel: SelectedChannel) -> None:
        """Reads a channel as far as the window goes."""
        wanted = Range(self.start_ns, self.end_ns)
        own = self.pieces[channel.channel_id] = []
        async with aclosing(read_blocks(db, channel, wanted)) as blocks, aclosing(merged(blocks, wanted)) as pieces:
            async for piece in pieces:
                if len(piece.time_ns) and piece.time_ns[0] >= self.end_ns:
                    return
                # A copy: a few samples must not keep the whole block in memory.
                own.append(_copied(piece.cut(Range(self.start_ns, self.end_ns))))
                self.held += len(own[-1].time_ns)
                if self.held > WINDOW_SAMPLES and self.end_ns - self.start_ns > 1:
                    self._shorten()

    def chunks(
        self, channels: Sequence[SelectedChannel], converters: Mapping[int, Converter]
    ) -> Iterator[TelemetryChunk]:
        """The chunks by the time of their first sample, each built when its turn comes."""
        converted = [
            (channel.channel, *pair)
            for channel in channels
            for piece in coalesced(self.pieces.pop(channel.channel_id))
            for pair in converters[channel.channel_id].convert(piece)
        ]
        converted.sort(key=lambda named: named[2].time_ns[0])
        return (make_chunk(*named) for named in converted)

    def _shorten(self) -> None:
        """Ends the window where half of the samples are before it; the others are read again in the next one."""
        times = np.concatenate([piece.time_ns for of_channel in self.pieces.values() for piece in of_channel])
        middle = int(np.partition(times, len(times) // 2)[len(times) // 2])
        # What lies at one instant stays together.
        self.end_ns = middle if middle > self.start_ns else self.start_ns + 1
        kept = Range(self.start_ns, self.end_ns)
        for channel_id, of_channel in self.pieces.items():
            self.pieces[channel_id][:] = [_copied(cut) for piece in of_channel if len((cut := piece.cut(kept)).time_ns)]
        self.held = sum(len(piece.time_ns) for of_channel in self.pieces.values() for piece in of_channel)


def _copied(piece: Piece) -> Piece:
    return Piece(piece.time_ns.copy(), piece.values.copy(), piece.capture_session_id, piece.late)
