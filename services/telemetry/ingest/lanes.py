"""Which batches of a lane are durable: pure rules over the sequence numbers received so far.

Ranges are half-open (first, after last), ascending, and neither touch nor overlap.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_GAPS = 256
KEPT_FINGERPRINTS = 64
FINGERPRINT = np.dtype([("seq", "<i8"), ("crc", "<u4")])
Ranges = list[tuple[int, int]]


@dataclass
class Lane:
    """The state of a lane within its transaction.

    `crcs` holds the content CRC of batch 1 and of the last 64. `reused` is set when a number came with other content: a
    device restarted its numbering. From then on a repeated number that cannot be compared any more is not taken for a
    repetition either.
    """

    lane_id: int
    holder: int = 0
    received: Ranges = field(default_factory=list)
    crcs: dict[int, int] = field(default_factory=dict)
    reused: bool = False

    def has(self, seq: int) -> bool:
        return contains(self.received, seq)

    def is_repetition(self, seq: int, crc: int) -> bool:
        """Whether a number that was received carries what it carried then; marks the lane when it does not."""
        known = self.crcs.get(seq)
        if known is not None and known != crc:
            self.reused = True
        return known == crc or (known is None and not self.reused)

    def gaps_with(self, seq: int) -> int:
        """How many gaps the lane would have with `seq` in it."""
        ranges = merge(self.received, [seq])
        return len(ranges) - (ranges[0][0] == 1)

    def add(self, seq: int, crc: int) -> None:
        """Marks a batch as durable."""
        self.received = merge(self.received, [seq])
        self.crcs[seq] = crc


def contains(ranges: Sequence[tuple[int, int]], seq: int) -> bool:
    """Whether `seq` lies in one of the ranges."""
    return any(first <= seq < after for first, after in ranges)


def merge(ranges: Ranges, seqs: Iterable[int]) -> Ranges:
    """The ranges with `seqs` added."""
    seqs = list(seqs)
    if ranges and len(seqs) == 1 and seqs[0] == ranges[-1][1]:  # the usual case: the next one
        return [*ranges[:-1], (ranges[-1][0], seqs[0] + 1)]
    merged: Ranges = []
    for first, after in sorted([*ranges, *((seq, seq + 1) for seq in seqs)]):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(after, merged[-1][1]))
        else:
            merged.append((first, after))
    return merged


def committed_through(ranges: Ranges) -> int:
    """The last number up to which nothing is missing; 0 when 1 is."""
    return ranges[0][1] - 1 if ranges and ranges[0][0] == 1 else 0


def missing(ranges: Ranges, last_seq: int) -> Ranges:
    """What of 1 to `last_seq` was not received."""
    gaps, expected = Ranges(), 1
    for first, after in [*ranges, (last_seq + 1, last_seq + 1)]:
        if first > expected and expected <= last_seq:
            gaps.append((expected, min(first, last_seq + 1)))
        expected = max(expected, after)
    return gaps


def to_multirange(ranges: Ranges) -> str:
    """As PostgreSQL writes an int8multirange."""
    return "{" + ",".join(f"[{first},{after})" for first, after in ranges) + "}"


def from_multirange(text: str) -> Ranges:
    """From PostgreSQL's canonical text of an int8multirange."""
    bounds = [int(number) for number in text.translate(str.maketrans("{}[)", "    ")).replace(",", " ").split()]
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def pack_crcs(crcs: dict[int, int]) -> bytes:
    """As stored in `ingest_lanes.fingerprints`: of batch 1 and of the last 64."""
    kept = sorted({1} & crcs.keys()) + sorted(crcs.keys() - {1})[-KEPT_FINGERPRINTS:]
    return np.array([(seq, crcs[seq]) for seq in kept], FINGERPRINT).tobytes()


def unpack_crcs(data: bytes) -> dict[int, int]:
    """From `ingest_lanes.fingerprints`."""
    return dict(np.frombuffer(data, FINGERPRINT).tolist())
