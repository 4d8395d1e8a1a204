"""Samples as they are committed."""

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc

from rigmesh.v1.telemetry_pb2 import PHYSICAL, View
from rigmesh.v1.telemetry_service_pb2 import StreamTelemetryRequest, StreamTelemetryResponse
from rigmesh_client.backoff import full_jitter_s
from rigmesh_client.connection import Connection
from rigmesh_client.errors import AnswerBroken, IncompleteAnswer
from rigmesh_client.samples import Samples, Selection, from_chunk

# another try would get the same answer
FINAL_CODES = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
_FINAL_NUMBERS = frozenset(code.value[0] for code in FINAL_CODES)

log = logging.getLogger(__name__)


async def live(
    connection: Connection, selection: Selection, *, view: View.ValueType = PHYSICAL
) -> AsyncIterator[Samples]:
    """History from `selection.start_ns` on (None = none), then what is committed, for ever and across reconnections.

    Nothing is left out and nothing comes twice: a reconnection goes on from the last message. Late data comes too, so
    times do not always ascend. `selection.end_ns` is not looked at. IncompleteAnswer: the history broke off in the
    middle, where there is no place to go on from. AnswerBroken, grpc.aio.AioRpcError: another try would not help.
    """
    request = StreamTelemetryRequest(
        channels=selection.channels,
        capture_session_id=selection.capture_session_id,
        run_id=selection.run_id,
        start_at=selection.start_at(),
        view=view,
    )
    failures = 0
    while True:
        history_began = False
        async for answer in _until_broken(connection, request):
            failures = 0
            if answer.resume_token:
                request.resume_token = answer.resume_token
            if answer.WhichOneof("result") == "chunk":
                history_began = True
                yield from_chunk(answer.chunk)
        if history_began and not request.resume_token:
            raise IncompleteAnswer("the history broke off")
        failures += 1
        await asyncio.sleep(full_jitter_s(failures))


async def _until_broken(
    connection: Connection, request: StreamTelemetryRequest
) -> AsyncIterator[StreamTelemetryResponse]:
    """The messages of one call; ends where a new call may help."""
    call = connection.telemetry.StreamTelemetry(request)
    try:
        async for answer in call:
            if answer.WhichOneof("result") == "error":
                if answer.error.code in _FINAL_NUMBERS:
                    raise AnswerBroken(answer.error.code, answer.error.message)
                log.warning("live samples are interrupted (%s), resuming", answer.error.message)
                return
            yield answer
    except grpc.aio.AioRpcError as error:
        if error.code() in FINAL_CODES:
            raise
        log.warning("live samples are interrupted (%s), resuming", error.details())
    finally:
        call.cancel()
