"""One open ingest stream: takes frames in, and answers with what became durable.

A reader task takes frames while the RPC's generator (`answers`) sends. Acks are not queued: the newest state of the
lane stands for all before it.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.error_reason_pb2 import (
    DRAINING,
    INTERNAL,
    INVALID_FIELDS,
    OPEN_EXPECTED,
    SUPERSEDED,
    TOO_MANY_GAPS,
    UNKNOWN_ALIAS,
    ErrorReason,
)
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestRequest, TelemetryIngestResponse
from services.errors import Aborted, FailedPrecondition, InvalidArgument, RigmeshError, Unavailable
from services.rpc.validate import validate
from services.telemetry.ingest.batches import Pending, Refusal, SupersededError, TooManyGapsError, Verdict
from services.telemetry.ingest.bindings import Bindings
from services.telemetry.ingest.intake import Source, accept
from services.telemetry.ingest.lanes import MAX_GAPS, Ranges, committed_through, missing
from services.telemetry.ingest.opening import seq_ranges
from services.telemetry.ingest.wakeup import Wakeup
from services.telemetry.ingest.writer import Writers

# A range of numbers ends one further, which must still be an int8.
MAX_SEQ = 2**63 - 2
MAX_OUTBOX = 1000
WINDOW = pb.Window(max_batches=256, max_bytes=16 * 1024 * 1024)


class IngestStream:
    """From Open to the end. `received` is the lane's state as last committed."""

    def __init__(
        self, source: Source, received: Ranges, bindings: Bindings, writers: Writers, drain_timeout_s: float
    ) -> None:
        self._source, self._received, self._drain_timeout_s = source, received, drain_timeout_s
        self._bindings, self._writers = bindings, writers
        self._totals = pb.IngestTotals()
        self._outbox: deque[TelemetryIngestResponse] = deque()
        self._finished: TelemetryIngestResponse | None = None
        self._ack_due = self._draining = False
        self._error: RigmeshError | None = None
        self._in_flight = self._in_flight_bytes = 0
        self._changed = Wakeup()

    def send(self, response: TelemetryIngestResponse) -> None:
        """Queues a frame for the client, before the next Ack."""
        self._outbox.append(response)

    def supersede(self) -> None:
        """A newer stream took the lane: this one ends."""
        self._end(Aborted(SUPERSEDED, "a newer stream of this lane took over"))

    async def answers(
        self, requests: AsyncIterator[TelemetryIngestRequest], stopping: asyncio.Event
    ) -> AsyncGenerator[TelemetryIngestResponse, None]:
        """The frames to the client, until Finished, the end of `requests`, an error, or a stop of the server."""
        reader = asyncio.create_task(self._read(requests))
        drain = asyncio.create_task(self._drain(reader, stopping))
        try:
            while True:
                await self._changed.until(lambda: self._outbox or self._ack_due or self._error or self._is_over(reader))
                while self._outbox:
                    yield self._outbox.popleft()
                if self._ack_due:
                    self._ack_due = False
                    yield TelemetryIngestResponse(ack=self._ack())
                if self._error is not None:
                    raise self._error
                self._changed.notify()  # there is room in the outbox
                if self._is_over(reader) and not self._outbox:
                    break
            if not reader.cancelled():
                reader.result()
            if self._finished is not None:
                yield self._finished
        finally:
            reader.cancel()
            drain.cancel()

    def _is_over(self, reader: asyncio.Task[None]) -> bool:
        # A draining stream ends by the error that says so.
        return reader.done() and not self._in_flight and not self._draining

    async def _read(self, requests: AsyncIterator[TelemetryIngestRequest]) -> None:
        try:
            async for request in requests:
                if await self._take(request):
                    break
            # The end of the requests is no Finish: what is on its way is still committed and acknowledged.
            await self._settled()
        finally:
            self._changed.notify()

    async def _take(self, request: TelemetryIngestRequest) -> bool:
        """Handles a frame; True when it was the last."""
        if request.WhichOneof("frame") == "batch":
            await self._batch(request.batch)
            return False
        validate(request)
        match request.WhichOneof("frame"):
            case "bind":
                await self._outbox_room()
                for response in await self._bindings.bind(request.bind.channels):
                    self.send(response)
            case "loss":
                await self._loss(request.loss)
            case "flush":
                self._ack_due = True
            case "finish":
                await self._finish(request.finish.last_seq)
                return True
            case _:
                raise FailedPrecondition(OPEN_EXPECTED, "Open comes once, first")
        self._changed.notify()
        return False

    async def _batch(self, batch: pb.Batch) -> None:
        if not 0 < batch.seq <= MAX_SEQ:
            raise InvalidArgument(
                INVALID_FIELDS, "batch.seq must be from 1 to 2^63 - 2", fields={"batch.seq": "out of range"}
            )
        pending = accept(batch, self._source, self._bindings.channels, self._bindings.refused, time.time_ns())
        await self._bindings.settle_types(pending)
        await self._changed.until(lambda: self._has_room(pending.size_bytes) or self._error)
        self._in_flight += 1
        self._in_flight_bytes += pending.size_bytes
        pending.done.add_done_callback(partial(self._decided, pending))
        try:
            await self._writers.put(pending)
        except asyncio.CancelledError:
            pending.done.cancel()  # it will never be decided
            raise

    def _has_room(self, size_bytes: int) -> bool:
        if not self._in_flight:
            return True
        fits = self._in_flight_bytes + size_bytes <= WINDOW.max_bytes
        return fits and self._in_flight < WINDOW.max_batches and len(self._outbox) < MAX_OUTBOX

    def _decided(self, pending: Pending, done: asyncio.Future[Verdict]) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= pending.size_bytes
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, SupersededError):
            self.supersede()
        elif error is not None:
            self._end(refusal(error))
        else:
            self._count(pending, done.result())
        self._changed.notify()

    def _count(self, pending: Pending, verdict: Verdict) -> None:
        self._received, self._ack_due = verdict.received, True
        self._totals.committed += verdict.committed
        self._totals.deduplicated += verdict.deduplicated
        self._totals.late += verdict.late
        self._totals.quarantined += sum(refusal.samples for refusal, _ in verdict.refusals)
        for refusal, quarantine_id in verdict.refusals:
            self.send(TelemetryIngestResponse(reject=reject(pending.seq, refusal, quarantine_id)))

    def _ack(self) -> pb.Ack:
        return make_ack(self._received, self._totals)

    async def _loss(self, loss: pb.Loss) -> None:
        if not await self._bindings.note_loss(loss, self._source.clock_id):
            text = f"alias {loss.alias} is not bound"
            refused = pb.Reject(alias=loss.alias, reason=ErrorReason.Name(UNKNOWN_ALIAS), message=text, permanent=True)
            self.send(TelemetryIngestResponse(reject=refused))

    async def _finish(self, last_seq: int) -> None:
        await self._settled()
        self._finished = TelemetryIngestResponse(
            finished=pb.Finished(
                committed_through=committed_through(self._received),
                missing=seq_ranges(missing(self._received, min(last_seq, MAX_SEQ - 1))),
                totals=self._totals,
            )
        )

    async def _settled(self) -> None:
        await self._changed.until(lambda: not self._in_flight)

    async def _outbox_room(self) -> None:
        await self._changed.until(lambda: len(self._outbox) < MAX_OUTBOX)

    async def _drain(self, reader: asyncio.Task[None], stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._draining = True
        self.send(
            TelemetryIngestResponse(drain=pb.Drain(deadline_ns=time.time_ns() + int(self._drain_timeout_s * 1e9)))
        )
        self._changed.notify()
        reader.cancel()
        await self._settled()
        self._end(Unavailable(DRAINING, "the server is stopping: connect again", retry_after_s=1.0))

    def _end(self, error: RigmeshError) -> None:
        self._error = self._error or error
        self._changed.notify()


def refusal(error: BaseException) -> RigmeshError:
    """What the client is told when a batch could not be decided."""
    if isinstance(error, TooManyGapsError):
        text = f"more than {MAX_GAPS} gaps in this lane: number batches without gaps"
        return FailedPrecondition(TOO_MANY_GAPS, text)
    return RigmeshError(INTERNAL, "a batch could not be stored; the log says why")


def reject(seq: int, refusal: Refusal, quarantine_id: str) -> pb.Reject:
    """A Reject for a refusal that is in quarantine."""
    return pb.Reject(
        seq=seq,
        alias=refusal.alias,
        reason=ErrorReason.Name(refusal.reason),
        message=refusal.message,
        permanent=True,
        quarantine_id=quarantine_id,
    )


def make_ack(received: Ranges, totals: pb.IngestTotals) -> pb.Ack:
    """An Ack for a lane's state."""
    through = committed_through(received)
    above = received[1:] if through else received
    return pb.Ack(committed_through=through, spooled_through=through, ranges=seq_ranges(above), totals=totals)
