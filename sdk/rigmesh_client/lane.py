"""Everything sent under one epoch: attempt after attempt, until the server has accounted for all of it."""

import asyncio
import logging
from collections.abc import Callable

import grpc

from rigmesh.v1.telemetry_ingest_pb2 import Finished, Open
from rigmesh_client.attempt import Ending, IngestAttempt
from rigmesh_client.backoff import LONGEST_S, full_jitter_s
from rigmesh_client.buffer import SendBuffer
from rigmesh_client.channels import ChannelTable
from rigmesh_client.connection import IngestCall
from rigmesh_client.errors import DataMissing, StreamRefused
from rigmesh_client.rejects import RejectLog

MOST_FINISHES = 3

_REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
_OPEN_REFUSALS = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
}

log = logging.getLogger(__name__)


class Lane:
    """Opens calls, one after another, and decides after each whether the lane is complete, goes on, or is refused."""

    def __init__(
        self,
        open_call: Callable[[], IngestCall],
        opening: Open,
        buffer: SendBuffer,
        channels: ChannelTable,
        rejects: RejectLog,
        read_clock_ns: Callable[[], int],
        on_progress: Callable[[], None],
    ):
        self._open_call = open_call
        self._opening = opening
        self._buffer = buffer
        self._channels = channels
        self._rejects = rejects
        self._read_clock_ns = read_clock_ns
        self._on_progress = on_progress
        self._attempt: IngestAttempt | None = None
        self._finishing = self._entered = False
        self.epoch = 0
        """Given by the server; 0 = not yet."""
        self.reconnections = 0
        self.last_problem = "no answer yet"

    def wake(self) -> None:
        """The buffer has something new."""
        if self._attempt is not None:
            self._attempt.wake(finishing=self._finishing)

    def finish(self) -> None:
        """Nothing will follow: `run` returns once all is accounted for."""
        self._finishing = True
        self.wake()

    async def run(self) -> None:
        """Streams for as long as it takes. StreamRefused: another try would not help. DataMissing: counts differ."""
        loop = asyncio.get_running_loop()
        failures = finishes = 0
        while True:
            began_s = loop.time()
            attempt = self._next_attempt()
            ending = await attempt.run(self._current_opening(), whole=not self._entered)
            if attempt.finished is not None:
                finishes += 1
                if self.is_complete(attempt.finished, finishes):
                    return
            if not self._begins_anew(ending):
                self._refuse(ending, attempt)
            worked = attempt.acknowledged or (attempt.opened and loop.time() - began_s > LONGEST_S)
            failures = 1 if worked else failures + 1
            self._note_problem(ending)
            await asyncio.sleep(full_jitter_s(failures))
            self.reconnections += 1

    def _next_attempt(self) -> IngestAttempt:
        self._attempt = IngestAttempt(
            self._open_call(), self._buffer, self._channels, self._rejects, self._read_clock_ns, self._progressed
        )
        self.wake()
        return self._attempt

    def _current_opening(self) -> Open:
        opening = Open()
        opening.CopyFrom(self._opening)
        opening.epoch = self.epoch
        opening.required_durability = Open.COMMITTED
        opening.oldest_retained_seq = self._buffer.oldest_seq
        # What is in the buffer was meant for the session of its time, not for the one that runs at the resumption.
        opening.capture_session_id = self._opening.capture_session_id or self._channels.session
        return opening

    def _progressed(self) -> None:
        attempt = self._attempt
        if attempt is not None and attempt.opened is not None and (self._entered or not attempt.refused):
            self.epoch, self._entered = attempt.opened.epoch, True
        self._on_progress()

    def _begins_anew(self, ending: Ending) -> bool:
        """Whether the server has forgotten what it gave out, as one does whose database was restored from a backup.

        What is not acknowledged is then sent in a new epoch, and goes where the server now puts it.
        """
        if not self._entered:
            return False
        if ending.reason == "UNKNOWN_EPOCH":
            self.epoch = 0
            self._buffer.renumber()
            return True
        if ending.reason == "NOT_FOUND" and self._channels.session and not self._opening.capture_session_id:
            self._channels.forget_sessions()
            return True
        return False

    def _refuse(self, ending: Ending, attempt: IngestAttempt) -> None:
        if attempt.refused and not self._entered:
            first = attempt.refused[0]
            name = f"channel {self._channels.name(first.alias)} (alias {first.alias})"
            raise StreamRefused(grpc.StatusCode.FAILED_PRECONDITION, first.reason, f"{name}: {first.message}")
        before_opened = attempt.opened is None and ending.code in _OPEN_REFUSALS
        if ending.code in _REFUSALS or before_opened:
            raise StreamRefused(ending.code, ending.reason, ending.details)

    def _note_problem(self, ending: Ending) -> None:
        problem = f"{ending.reason or ending.code.name}: {ending.details or 'the server ended the stream'}"
        if problem != self.last_problem:  # an outage is said once
            log.warning("stream %s is interrupted (%s), resuming", self._opening.producer, problem)
        self.last_problem = problem

    def is_complete(self, finished: Finished, finishes: int) -> bool:
        """Whether the server has all; what is missing can be sent again. DataMissing: it cannot, or counts differ."""
        if finished.missing:
            if finishes < MOST_FINISHES and self._buffer.holds(finished.missing):
                return False
            ranges = ", ".join(f"{part.first}-{part.last}" for part in finished.missing[:8])
            raise DataMissing(f"the server never got the batches {ranges} of epoch {self.epoch}")
        totals = finished.totals
        counted = totals.committed + totals.deduplicated + totals.quarantined + finished.pending
        if counted != self._buffer.sent_samples:
            raise DataMissing(f"{self._buffer.sent_samples} samples were sent, but the server counts {counted}")
        self._buffer.acknowledge(self._buffer.last_seq)
        return True
