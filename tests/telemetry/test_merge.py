"""Reading merges blocks by one rule, checked against a plain Python model of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.telemetry.reads.merge import MOST_SAMPLES, coalesced, merged
from services.telemetry.reads.stored import Range, StoredBlock


def block(lane_id: int, seq: int, clock_id: int, times: list[int], session: str | None) -> StoredBlock:
    time_ns = np.array(times, np.int64)
    residuals = time_ns - time_ns[0] if len(times) > 1 else None
    values = np.array([lane_id * 1e6 + seq * 1e3 + i for i in range(len(times))])
    return StoredBlock(
        channel_id=1,
        placed_us=min(times) // 1000,
        span_ns=max(times) - min(times),
        start_ns=times[0],
        offset_ns=0,
        period_ns=0,
        lane_id=lane_id,
        seq=seq,
        part=0,
        commit_id=1,
        clock_id=clock_id,
        n=len(times),
        late=False,
        received_at=datetime.now(UTC),
        capture_session_id=session,
        residuals_i4=residuals,
        residuals_i8=None,
        values_f8=values,
        values_i8=None,
    )


times = st.lists(st.integers(0, 30_000), min_size=1, max_size=6)
drafts = st.lists(st.tuples(st.integers(1, 3), times, st.sampled_from([None, "s"])), max_size=8)


def model(blocks: list[StoredBlock], wanted: Range) -> list[tuple[int, float]]:
    """Samples of one time and clock: those of the highest (lane, seq) are shown, all others hidden."""
    highest: dict[tuple[int, int], tuple[int, int]] = {}
    samples = [
        (int(t), float(v), b.clock_id, (b.lane_id, b.seq))
        for b in blocks
        for t, v in zip(b.time_ns, b.values, strict=True)
    ]
    for t, _, clock, rank in samples:
        highest[t, clock] = max(rank, highest.get((t, clock), rank))
    return sorted(
        (t, v) for t, v, clock, rank in samples if rank == highest[t, clock] and wanted.start_ns <= t < wanted.end_ns
    )


@given(drafts, st.integers(0, 30_000), st.integers(1, 30_000))
async def test_pieces_are_what_the_rule_says_in_time_order(
    drafts: list[tuple[int, list[int], str | None]], start: int, length: int
) -> None:
    # One lane belongs to one clock, and its numbers differ.
    blocks = [block(lane, seq, lane % 2, at, session) for seq, (lane, at, session) in enumerate(drafts, 1)]
    blocks.sort(key=lambda b: (b.placed_us, b.lane_id, b.seq))
    wanted = Range(start, start + length)

    async def source() -> AsyncIterator[StoredBlock]:
        for one in blocks:
            yield one

    pieces = list(coalesced([piece async for piece in merged(source(), wanted)]))
    shown = [(int(t), float(v)) for piece in pieces for t, v in zip(piece.time_ns, piece.values, strict=True)]
    assert [t for t, _ in shown] == sorted(t for t, _ in shown)
    assert sorted(shown) == model(blocks, wanted)
    session_of = {float(v): b.capture_session_id for b in blocks for v in b.values}
    for piece in pieces:
        assert {session_of[float(v)] for v in piece.values} == {piece.capture_session_id}


async def test_pieces_are_cut_to_what_a_message_holds() -> None:
    """Producers side by side on one channel, with blocks as long as they may be."""
    spread = np.arange(MOST_SAMPLES) * 1000
    blocks = [block(lane, 1, lane, (spread + lane).tolist(), None) for lane in range(1, 7)]
    blocks += [block(7, seq, 7, (spread[:9000] + 10**8 * seq).tolist(), None) for seq in range(1, 30)]
    blocks.sort(key=lambda b: (b.placed_us, b.lane_id, b.seq))

    async def source() -> AsyncIterator[StoredBlock]:
        for one in blocks:
            yield one

    pieces = list(coalesced([piece async for piece in merged(source(), Range())]))
    assert sum(len(piece.time_ns) for piece in pieces) == 6 * MOST_SAMPLES + 29 * 9000
    assert max(len(piece.time_ns) for piece in pieces) <= MOST_SAMPLES
