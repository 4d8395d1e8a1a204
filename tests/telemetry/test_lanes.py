from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.telemetry.ingest.lanes import (
    KEPT_FINGERPRINTS,
    Lane,
    committed_through,
    contains,
    from_multirange,
    merge,
    missing,
    pack_crcs,
    to_multirange,
    unpack_crcs,
)

seqs = st.sets(st.integers(1, 60))


@given(seqs, seqs)
def test_a_lane_holds_exactly_what_was_added_in_any_order(first: set[int], second: set[int]) -> None:
    ranges = merge(merge([], first), second)
    assert {seq for seq in range(70) if contains(ranges, seq)} == first | second
    assert all(one[1] < other[0] for one, other in pairwise(ranges))


@given(st.permutations(range(1, 20)))
def test_adding_one_by_one_ends_in_one_range(order: list[int]) -> None:
    lane = Lane(1)
    for seq in order:
        lane.add(seq, seq)
    assert lane.received == [(1, 20)]


@given(seqs, st.integers(0, 70))
def test_the_cursor_never_passes_a_gap_and_gaps_are_named(received: set[int], last_seq: int) -> None:
    ranges = merge([], received)
    through = committed_through(ranges)
    assert set(range(1, through + 1)) <= received
    assert through + 1 not in received
    gaps = {seq for first, after in missing(ranges, last_seq) for seq in range(first, after)}
    assert gaps == set(range(1, last_seq + 1)) - received


@given(seqs)
def test_ranges_survive_the_database_form(received: set[int]) -> None:
    ranges = merge([], received)
    assert from_multirange(to_multirange(ranges)) == ranges


@given(st.dictionaries(st.integers(1, 2**63 - 1), st.integers(0, 2**32 - 1), max_size=200))
def test_fingerprints_of_the_first_and_the_last_batches_are_kept(crcs: dict[int, int]) -> None:
    kept = unpack_crcs(pack_crcs(crcs))
    expected = ({1} & crcs.keys()) | set(sorted(crcs.keys() - {1})[-KEPT_FINGERPRINTS:])
    assert kept == {seq: crcs[seq] for seq in expected}


def test_a_number_with_other_content_marks_its_lane() -> None:
    lane = Lane(1)
    lane.add(1, 0xAA)
    lane.received = [(1, 300)]
    assert lane.is_repetition(1, 0xAA)
    assert lane.is_repetition(200, 0xBB), "what cannot be compared is taken for a repetition"
    assert not lane.is_repetition(1, 0xBB)
    assert lane.reused
    assert not lane.is_repetition(200, 0xBB), "but not any more after a number came with other content"
    assert lane.is_repetition(1, 0xAA)


def test_gaps_are_counted_from_one_on() -> None:
    lane = Lane(1)
    assert lane.gaps_with(2) == 1
    lane.add(1, 0)
    assert lane.gaps_with(2) == 0
    assert lane.gaps_with(3) == 1
