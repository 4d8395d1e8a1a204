"""A fault in encoding costs the batch that has it, never another one."""

import time

import numpy as np

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from services.telemetry.ingest.batches import Channel, Pending
from services.telemetry.ingest.intake import Source, accept
from services.telemetry.ingest.writer import _encode
from tests.telemetry.device import regular

CHANNELS = {1: Channel(1, 7, "", "ax", "g", "", value_type="DOUBLE")}
SOURCE = Source(lane_id=1, holder=None, clock_id=1, is_monotonic=False)


def pending(seq: int) -> Pending:
    batch = pb.Batch(seq=seq, series=[regular(1, 1_790_000_000 * 10**9, [1.0, 2.0])])
    return accept(batch, SOURCE, CHANNELS, {}, time.time_ns())


async def test_only_the_guilty_batch_is_refused() -> None:
    waited, good, broken = pending(1), pending(2), pending(3)
    _encode([waited])
    broken.taken[0].samples.values = np.array([], np.float64)  # what a fault of ours could leave behind
    _encode([waited, good, broken])
    assert [len(batch.accepted) for batch in (waited, good, broken)] == [1, 1, 0]
    assert [len(batch.refusals) for batch in (waited, good, broken)] == [0, 0, 1]
