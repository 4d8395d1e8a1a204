"""Blocks of one channel become one sequence of samples in time order.

Where blocks of one clock hold the same time, the highest (epoch, seq, part) wins, whatever came first: any order of
arrival gives the same content. Epochs of a producer have ascending lane ids. Samples of different clocks never shadow
each other.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from services.telemetry.reads.stored import Range, StoredBlock, is_ascending
from services.telemetry.series import Times, Values

# A chunk of the most samples is a message of 1 MiB: gRPC refuses more than 4.
CHUNK_SAMPLES, MOST_SAMPLES = 8192, 65_536


@dataclass(frozen=True)
class Piece:
    """Samples in time order that share a session and a late mark; MOST_SAMPLES at the most."""

    time_ns: Times
    values: Values
    capture_session_id: str | None
    late: bool

    def cut(self, wanted: Range) -> "Piece":
        """The samples within a range."""
        first, last = np.searchsorted(self.time_ns, (wanted.start_ns, wanted.end_ns))
        return self.part(int(first), int(last))

    def part(self, first: int, last: int) -> "Piece":
        """The samples from one index up to another."""
        return Piece(self.time_ns[first:last], self.values[first:last], self.capture_session_id, self.late)

    def continues(self, other: "Piece") -> bool:
        """Whether `other` may be joined to this piece."""
        return self.capture_session_id == other.capture_session_id and self.late == other.late


@dataclass(frozen=True)
class _Part:
    """Samples of one block in time order."""

    block: StoredBlock
    time_ns: Times
    values: Values


async def merged(blocks: AsyncIterator[StoredBlock], wanted: Range) -> AsyncGenerator[Piece, None]:
    """Pieces in time order from blocks by placed_at. What no later block can precede is passed on at once."""
    waiting: list[_Part] = []
    async for block in blocks:
        ready, waiting = _split(waiting, block.placed_us * 1000)
        for piece in _resolve(ready):
            yield piece.cut(wanted)
        waiting.append(_part(block))
    for piece in _resolve(waiting):
        yield piece.cut(wanted)


def merge_all(blocks: Sequence[StoredBlock]) -> Iterator[Piece]:
    """The same for a few blocks at once."""
    return _resolve([_part(block) for block in blocks])


def coalesced(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Joins small pieces to at least CHUNK_SAMPLES where session and late mark allow; drops empty ones."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        n = len(piece.time_ns)
        if not n:
            continue
        full = size >= CHUNK_SAMPLES or size + n > MOST_SAMPLES
        if held and (full or not held[-1].continues(piece)):
            yield _joined(held)
            held, size = [], 0
        held.append(piece)
        size += n
    if held:
        yield _joined(held)


def _part(block: StoredBlock) -> _Part:
    time_ns, values = block.time_ns, block.values
    if not is_ascending(time_ns):
        order = np.argsort(time_ns, kind="stable")
        time_ns, values = time_ns[order], values[order]
    return _Part(block, time_ns, values)


def _split(parts: list[_Part], horizon_ns: int) -> tuple[list[_Part], list[_Part]]:
    ready, rest = list[_Part](), list[_Part]()
    for part in parts:
        at = int(np.searchsorted(part.time_ns, horizon_ns))
        if at:
            ready.append(_Part(part.block, part.time_ns[:at], part.values[:at]))
        if at < len(part.time_ns):
            rest.append(_Part(part.block, part.time_ns[at:], part.values[at:]))
    return ready, rest


def _resolve(parts: list[_Part]) -> Iterator[Piece]:
    if len(parts) == 1:
        block = parts[0].block
        yield from _cut_up(Piece(parts[0].time_ns, parts[0].values, block.capture_session_id, block.late))
    elif parts:
        parts = sorted(parts, key=lambda part: (part.block.lane_id, part.block.seq, part.block.part))
        time_ns = np.concatenate([part.time_ns for part in parts])
        values = np.concatenate([part.values for part in parts])
        # The index of a part is its rank: parts are sorted by (epoch, seq, part).
        rank = np.repeat(np.arange(len(parts)), [len(part.time_ns) for part in parts])
        clock = np.array([part.block.clock_id for part in parts])[rank]
        kept = _winners(time_ns, clock, rank)
        yield from _runs(parts, time_ns[kept], values[kept], rank[kept])


def _winners(time_ns: Times, clock: npt.NDArray[np.int64], rank: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of the samples that are shown, in time order."""
    order = np.lexsort((rank, clock, time_ns))
    same = (np.diff(time_ns[order]) == 0) & (np.diff(clock[order]) == 0) & (np.diff(rank[order]) != 0)
    if not same.any():
        return order
    # Within one time of one clock, only samples of the last (highest) rank stay.
    begins = np.flatnonzero(np.r_[True, (np.diff(time_ns[order]) != 0) | (np.diff(clock[order]) != 0)])
    ends = np.r_[begins[1:], len(order)]
    highest = np.repeat(rank[order][ends - 1], ends - begins)
    winners: npt.NDArray[np.int64] = order[rank[order] == highest]
    return winners


def _runs(parts: Sequence[_Part], time_ns: Times, values: Values, rank: npt.NDArray[np.int64]) -> Iterator[Piece]:
    owners = [(part.block.capture_session_id, part.block.late) for part in parts]
    kinds = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    kind = np.array([kinds[owner] for owner in owners])[rank]
    borders = [0, *(np.flatnonzero(np.diff(kind)) + 1).tolist(), len(kind)]
    for first, last in pairwise(borders):
        session, late = owners[int(rank[first])]
        yield from _cut_up(Piece(time_ns[first:last], values[first:last], session, late))


def _cut_up(piece: Piece) -> Iterator[Piece]:
    for first in range(0, len(piece.time_ns), MOST_SAMPLES):
        yield piece.part(first, first + MOST_SAMPLES)


def _joined(pieces: Sequence[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        np.concatenate([piece.time_ns for piece in pieces]),
        np.concatenate([piece.values for piece in pieces]),
        pieces[0].capture_session_id,
        pieces[0].late,
    )
