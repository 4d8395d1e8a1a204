"""The account at the end of a stream."""

from typing import Any

import pytest

from rigmesh.v1.telemetry_ingest_pb2 import Finished, IngestTotals, Open, SeqRange
from rigmesh_client.batches import EncodedBatch
from rigmesh_client.buffer import SendBuffer
from rigmesh_client.channels import ChannelTable
from rigmesh_client.errors import DataMissing
from rigmesh_client.lane import MOST_FINISHES, Lane
from rigmesh_client.rejects import RejectLog


def lane_that_sent(samples: list[int]) -> tuple[Lane, SendBuffer]:
    buffer = SendBuffer(max_batches=64, max_bytes=1 << 20)
    for count in samples:
        buffer.add(EncodedBatch(series=b"x", samples=count, crc32c=None))
        buffer.next_to_send()

    def unused(*_: Any) -> Any:
        raise AssertionError("no call is opened here")

    return Lane(unused, Open(), buffer, ChannelTable([]), RejectLog(None), unused, unused), buffer


@pytest.mark.parametrize(
    ("totals", "pending"),
    [
        (IngestTotals(committed=30), 0),
        (IngestTotals(committed=10, deduplicated=5, quarantined=15, late=10), 0),
        (IngestTotals(committed=10), 20),
    ],
)
def test_every_sample_is_accounted_for(totals: IngestTotals, pending: int) -> None:
    lane, buffer = lane_that_sent([10, 20])
    assert lane.is_complete(Finished(totals=totals, pending=pending), 1)
    assert len(buffer) == 0


@pytest.mark.parametrize("committed", [29, 31])
def test_other_counts_are_an_error(committed: int) -> None:
    lane, _ = lane_that_sent([10, 20])
    with pytest.raises(DataMissing, match=f"30 samples were sent, but the server counts {committed}"):
        lane.is_complete(Finished(totals=IngestTotals(committed=committed)), 1)


def test_what_is_missing_is_sent_again_while_it_is_kept() -> None:
    lane, buffer = lane_that_sent([10, 20])
    finished = Finished(missing=[SeqRange(first=2, last=2)], totals=IngestTotals(committed=10))
    assert not lane.is_complete(finished, MOST_FINISHES - 1)
    with pytest.raises(DataMissing, match="batches 2-2"):
        lane.is_complete(finished, MOST_FINISHES)
    buffer.acknowledge(2)
    with pytest.raises(DataMissing, match="batches 2-2"):
        lane.is_complete(finished, 1)


def test_a_new_epoch_numbers_what_is_left_from_1() -> None:
    """Also above what was acknowledged out of order; `flush` still waits for what it was asked for."""
    _, buffer = lane_that_sent([1, 2, 3, 4])
    asked_for = buffer.newest_position
    buffer.acknowledge(1, [SeqRange(first=3, last=3)])
    buffer.renumber()
    assert (buffer.oldest_seq, buffer.last_seq, buffer.in_flight) == (1, 2, False)
    assert [sent[1].samples for sent in (buffer.next_to_send(), buffer.next_to_send()) if sent] == [2, 4]
    buffer.acknowledge(1)
    assert not buffer.is_settled(asked_for)
    buffer.acknowledge(2)
    assert buffer.is_settled(asked_for)
