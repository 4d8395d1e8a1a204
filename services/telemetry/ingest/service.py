"""TelemetryIngestService: opens streams and takes single batches."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.error_reason_pb2 import OPEN_EXPECTED
from rigmesh.v1.telemetry_ingest_service_pb2 import (
    AppendTelemetryRequest,
    AppendTelemetryResponse,
    GetIngestCursorRequest,
    IngestCursor,
    TelemetryIngestRequest,
    TelemetryIngestResponse,
)
from services.background import Background
from services.db.pool import Pools
from services.errors import FailedPrecondition
from services.rpc.call import Call
from services.rpc.validate import MAX_MESSAGE_BYTES, validate
from services.settings import Settings
from services.telemetry.ingest.batches import NotStoredError, TooManyGapsError
from services.telemetry.ingest.bindings import MAX_ALIASES, Bindings
from services.telemetry.ingest.channels import Scope, check_session, scope_of
from services.telemetry.ingest.intake import MAX_BATCH_SAMPLES, MAX_BATCH_SERIES, Source, accept
from services.telemetry.ingest.opening import OpenedLane, find_lane, open_clock, open_lane, seq_ranges, upload_lane
from services.telemetry.ingest.seals import Seals
from services.telemetry.ingest.stream import WINDOW, IngestStream, make_ack, refusal, reject
from services.telemetry.ingest.writer import Writers

LIMITS = pb.IngestLimits(
    max_message_bytes=MAX_MESSAGE_BYTES,
    max_batch_series=MAX_BATCH_SERIES,
    max_batch_samples=MAX_BATCH_SAMPLES,
    max_aliases=MAX_ALIASES,
    window=WINDOW,
)
log = structlog.get_logger("rigmesh.ingest")


class IngestService:
    """The streams of this process, by lane: the newest of a lane ends the one before it."""

    def __init__(self, pools: Pools, writers: Writers, stopping: asyncio.Event, drain_timeout_s: float) -> None:
        self._pools, self._writers = pools, writers
        self._stopping, self._drain_timeout_s = stopping, drain_timeout_s
        self._streams: dict[int, tuple[int, IngestStream]] = {}

    async def TelemetryIngest(
        self, requests: AsyncIterator[TelemetryIngestRequest], call: Call
    ) -> AsyncIterator[TelemetryIngestResponse]:
        first = await anext(requests, None)
        if first is None:
            return
        if first.WhichOneof("frame") != "open":
            raise FailedPrecondition(OPEN_EXPECTED, "the first frame must be Open")
        validate(first)
        lane, stream = await self._open(scope_of(call.principal), first.open)
        self._register(lane, stream)
        try:
            async with aclosing(stream.answers(requests, self._stopping)) as answers:
                async for response in answers:
                    yield response
        finally:
            if self._streams.get(lane.lane_id) == (lane.holder, stream):
                del self._streams[lane.lane_id]

    async def AppendTelemetry(self, request: AppendTelemetryRequest, call: Call) -> AppendTelemetryResponse:
        scope = scope_of(call.principal)
        bindings = Bindings(self._pools.write, scope, request.capture_session_id)
        async with self._pools.write.connection() as db:
            if request.capture_session_id:
                await check_session(db, scope, request.capture_session_id)
            lane = await upload_lane(db, scope, request.upload_id)
            clock_id = await open_clock(db, scope, request.upload_id, "", request.clock.kind)
        _, rejected = await bindings.open(request.channels)
        source = Source(lane.lane_id, None, clock_id, request.clock.kind == pb.Clock.MONOTONIC)
        pending = accept(request.batch, source, bindings.channels, bindings.refused, time.time_ns())
        await bindings.settle_types(pending)
        await self._writers.put(pending)
        try:
            verdict = await pending.done
        except (TooManyGapsError, NotStoredError) as error:
            raise refusal(error) from None
        totals = pb.IngestTotals(
            committed=verdict.committed,
            deduplicated=verdict.deduplicated,
            late=verdict.late,
            quarantined=sum(refused.samples for refused, _ in verdict.refusals),
        )
        rejected += [reject(pending.seq, refused, quarantine_id) for refused, quarantine_id in verdict.refusals]
        return AppendTelemetryResponse(ack=make_ack(verdict.received, totals), rejects=rejected)

    async def GetIngestCursor(self, request: GetIngestCursorRequest, call: Call) -> IngestCursor:
        kind = "UPLOAD" if request.WhichOneof("lane") == "upload_id" else "STREAM"
        name = request.upload_id or request.producer
        lane = await find_lane(call.db, scope_of(call.principal), kind, name, request.epoch)
        return IngestCursor(epoch=lane.epoch, ranges=seq_ranges(lane.received))

    def _register(self, lane: OpenedLane, stream: IngestStream) -> None:
        """Of two streams of one lane the one that the database let in last goes on, whichever comes here first."""
        holder, other = self._streams.get(lane.lane_id, (0, None))
        if holder > lane.holder:
            stream.supersede()
            return
        self._streams[lane.lane_id] = (lane.holder, stream)
        if other is not None:
            other.supersede()

    async def _open(self, scope: Scope, opening: pb.Open) -> tuple[OpenedLane, IngestStream]:
        bindings = Bindings(self._pools.write, scope, opening.capture_session_id)
        if opening.capture_session_id:
            async with self._pools.read.connection() as db:
                await check_session(db, scope, opening.capture_session_id)
        bound, rejected = await bindings.open(opening.channels)
        async with self._pools.write.connection() as db:
            lane = await open_lane(db, scope, opening.producer, opening.epoch)
            clock_id = await open_clock(db, scope, opening.producer, opening.boot_id, opening.clock.kind)
        log.info(
            "stream opened",
            lane_id=lane.lane_id,
            producer=opening.producer,
            epoch=lane.epoch,
            oldest_retained_seq=opening.oldest_retained_seq or None,
        )
        source = Source(lane.lane_id, lane.holder, clock_id, opening.clock.kind == pb.Clock.MONOTONIC)
        stream = IngestStream(source, lane.received, bindings, self._writers, self._drain_timeout_s)
        stream.send(TelemetryIngestResponse(opened=_opened(lane, bound)))
        for refused in rejected:
            stream.send(TelemetryIngestResponse(reject=refused))
        return lane, stream


@contextlib.asynccontextmanager
async def open_ingest(
    settings: Settings, pools: Pools, stopping: asyncio.Event, background: Background
) -> AsyncIterator[IngestService]:
    """The service with its writers and the sealer running."""
    async with (
        Seals(settings.database_url).sealing(background) as seals,
        Writers(pools.ingest, seals.committed).running(background) as writers,
    ):
        yield IngestService(pools, writers, stopping, settings.drain_timeout_s)


def _opened(lane: OpenedLane, bound: list[pb.BoundChannel]) -> pb.Opened:
    return pb.Opened(
        epoch=lane.epoch,
        cursor=seq_ranges(lane.received),
        granted_durability=pb.Open.COMMITTED,
        limits=LIMITS,
        server_time_ns=time.time_ns(),
        channels=bound,
    )
