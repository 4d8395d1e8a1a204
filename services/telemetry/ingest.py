"""TelemetryIngestService: opens streams and takes single batches."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from uuid_utils import uuid7

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.error_reason_pb2 import AMBIGUOUS_SESSION, OPEN_EXPECTED, ErrorReason
from rigmesh.v1.telemetry_ingest_service_pb2 import (
    AppendTelemetryRequest,
    AppendTelemetryResponse,
    GetIngestCursorRequest,
    IngestCursor,
    TelemetryIngestRequest,
    TelemetryIngestResponse,
)
from services.db.pool import Pools
from services.errors import FailedPrecondition
from services.rpc.call import Call
from services.rpc.validate import validate
from services.settings import Settings
from services.telemetry.bindings import MAX_ALIASES, Bindings
from services.telemetry.channels import Scope, check_session, scope_of
from services.telemetry.intake import MAX_BATCH_SAMPLES, Source, accept
from services.telemetry.opening import OpenedLane, find_lane, open_clock, open_lane, seq_ranges, upload_lane
from services.telemetry.seals import Seals
from services.telemetry.stream import WINDOW, IngestStream, make_ack, reject
from services.telemetry.writer import Writers

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
LIMITS = pb.IngestLimits(
    max_message_bytes=MAX_MESSAGE_BYTES, max_batch_samples=MAX_BATCH_SAMPLES, max_aliases=MAX_ALIASES, window=WINDOW
)


class IngestService:
    """The streams of this process, by lane: the newest of a lane ends the one before it."""

    def __init__(self, pools: Pools, writers: Writers, stopping: asyncio.Event) -> None:
        self._pools, self._writers, self._stopping = pools, writers, stopping
        self._streams: dict[int, IngestStream] = {}

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
        older, self._streams[lane.lane_id] = self._streams.get(lane.lane_id), stream
        if older is not None:
            older.supersede()
        try:
            async for response in stream.answers(requests, self._stopping):
                yield response
        finally:
            if self._streams.get(lane.lane_id) is stream:
                del self._streams[lane.lane_id]

    async def AppendTelemetry(self, request: AppendTelemetryRequest, call: Call) -> AppendTelemetryResponse:
        scope = scope_of(call.principal)
        bindings = Bindings(self._pools.write, scope, request.capture_session_id)
        async with self._pools.write.connection() as db:
            if request.capture_session_id:
                await check_session(db, scope, request.capture_session_id)
            lane = await upload_lane(db, scope, request.upload_id)
            clock_id = await open_clock(db, scope, request.upload_id, "", request.clock.kind)
        _, rejected = await bindings.bind_each(request.channels)
        _refuse_ambiguous(rejected)
        source = Source(lane.lane_id, None, clock_id, request.clock.kind == pb.Clock.MONOTONIC)
        pending = accept(request.batch, source, bindings.channels, time.time_ns())
        await bindings.settle_types(pending)
        await self._writers.put(pending)
        verdict = await pending.done
        totals = pb.IngestTotals(
            committed=verdict.committed,
            deduplicated=verdict.deduplicated,
            late=verdict.late,
            quarantined=sum(refusal.samples for refusal, _ in verdict.refusals),
        )
        rejected += [reject(pending.seq, refusal, quarantine_id) for refusal, quarantine_id in verdict.refusals]
        return AppendTelemetryResponse(ack=make_ack(verdict.received, totals), rejects=rejected)

    async def GetIngestCursor(self, request: GetIngestCursorRequest, call: Call) -> IngestCursor:
        lane = await find_lane(call.db, scope_of(call.principal), request.producer, request.epoch)
        return IngestCursor(epoch=lane.epoch, ranges=seq_ranges(lane.received))

    async def _open(self, scope: Scope, opening: pb.Open) -> tuple[OpenedLane, IngestStream]:
        bindings = Bindings(self._pools.write, scope, opening.capture_session_id)
        if opening.capture_session_id:
            async with self._pools.read.connection() as db:
                await check_session(db, scope, opening.capture_session_id)
        bound, rejected = await bindings.bind_each(opening.channels)
        _refuse_ambiguous(rejected)
        holder = str(uuid7())
        async with self._pools.write.connection() as db:
            lane = await open_lane(db, scope, opening.producer, opening.epoch, holder)
            clock_id = await open_clock(db, scope, opening.producer, opening.boot_id, opening.clock.kind)
        source = Source(lane.lane_id, holder, clock_id, opening.clock.kind == pb.Clock.MONOTONIC)
        stream = IngestStream(source, lane.received, bindings, self._writers)
        stream.send(TelemetryIngestResponse(opened=_opened(lane, bound)))
        for refused in rejected:
            stream.send(TelemetryIngestResponse(reject=refused))
        return lane, stream


@contextlib.asynccontextmanager
async def open_ingest(settings: Settings, pools: Pools, stopping: asyncio.Event) -> AsyncIterator[IngestService]:
    """The service with its writers and the sealer running."""
    async with (
        Seals(settings.database_url).sealing() as seals,
        Writers(pools.write, seals.committed).running() as writers,
    ):
        yield IngestService(pools, writers, stopping)


def _opened(lane: OpenedLane, bound: list[pb.BoundChannel]) -> pb.Opened:
    return pb.Opened(
        epoch=lane.epoch,
        cursor=seq_ranges(lane.received),
        granted_durability=pb.Open.COMMITTED,
        limits=LIMITS,
        server_time_ns=time.time_ns(),
        channels=bound,
    )


def _refuse_ambiguous(rejected: list[pb.Reject]) -> None:
    """Where a stream begins, an ambiguous session ends it: all its samples would be lost on the way otherwise."""
    for refused in rejected:
        if refused.reason == ErrorReason.Name(AMBIGUOUS_SESSION):
            raise FailedPrecondition(
                AMBIGUOUS_SESSION, refused.message, metadata={"capture_session_ids": refused.message.partition(": ")[2]}
            )
