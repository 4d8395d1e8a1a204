"""Decides what a group commit does with each of its batches: pure, once the locked rows are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rigmesh.v1.error_reason_pb2 import EPOCH_REUSED, SESSION_CLOSED
from services.telemetry.ingest.batches import (
    Accepted,
    Pending,
    Refusal,
    SupersededError,
    TooManyGapsError,
    whole_refusal,
)
from services.telemetry.ingest.lanes import MAX_GAPS, Lane

REUSED = "this sequence number was used with other content: the device must ask for a new epoch"
OPEN_STATES = ("RUNNING", "SUCCEEDED", "FAILED", "BACKFILLING")


@dataclass(frozen=True)
class Session:
    """A capture session as locked by the commit. `ended_at` tells late samples."""

    capture_session_id: str
    status: str
    ended_at: datetime | None

    def is_late(self, received_ns: int) -> bool:
        """Received after the end, both by the server's clocks."""
        return self.ended_at is not None and received_ns > self.ended_at.timestamp() * 1e9


@dataclass
class Outcome:
    """One batch in the plan. `error` keeps it out of the commit altogether."""

    batch: Pending
    stored: list[tuple[Accepted, bool]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    deduplicated: bool = False
    error: Exception | None = None


def plan(group: Sequence[Pending], lanes: Mapping[int, Lane], sessions: Mapping[str, Session]) -> list[Outcome]:
    """An outcome for each batch whose lane is locked; the lanes are brought up to date. Others wait for the next."""
    return [
        _decide(batch, lanes[batch.lane_id], sessions)
        for batch in sorted(group, key=lambda batch: batch.seq)
        if batch.lane_id in lanes
    ]


def _decide(batch: Pending, lane: Lane, sessions: Mapping[str, Session]) -> Outcome:
    if batch.holder is not None and batch.holder != lane.holder:
        return Outcome(batch, error=SupersededError())
    if lane.has(batch.seq):
        if lane.is_repetition(batch.seq, batch.crc):
            return Outcome(batch, deduplicated=True)
        return Outcome(batch, refused=[whole_refusal(batch.batch, EPOCH_REUSED, REUSED)])
    if lane.gaps_with(batch.seq) > MAX_GAPS:
        return Outcome(batch, error=TooManyGapsError())
    lane.add(batch.seq, batch.crc)
    return _store(batch, sessions)


def _store(batch: Pending, sessions: Mapping[str, Session]) -> Outcome:
    outcome = Outcome(batch, refused=list(batch.refusals))
    for accepted in batch.accepted:
        session = sessions.get(accepted.block.capture_session_id)
        if session is not None and session.status not in OPEN_STATES:
            text = f"the capture session is {session.status}"
            outcome.refused.append(accepted.taken.refuse(SESSION_CLOSED, text))
        else:
            outcome.stored.append((accepted, session is not None and session.is_late(batch.received_ns)))
    return outcome
