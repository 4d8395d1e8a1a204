"""Stored samples, read back as numpy arrays. Errors of the calls are `grpc.aio.AioRpcError`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rigmesh.v1.telemetry_pb2 import PHYSICAL, LatestSample, StreamEnd, View
from rigmesh.v1.telemetry_service_pb2 import (
    GetLatestRequest,
    GetSeriesRequest,
    QueryTelemetryRequest,
    QueryTelemetryResponse,
)
from rigmesh_client.connection import Connection
from rigmesh_client.errors import AnswerBroken, IncompleteAnswer
from rigmesh_client.samples import Samples, Selection, concatenate, from_chunk


async def query(
    connection: Connection, selection: Selection, *, view: View.ValueType = PHYSICAL
) -> AsyncIterator[Samples]:
    """All selected samples, chunk by chunk: within a channel in time order, channels by their first sample.

    What was yielded is all only when the iteration ends by itself. IncompleteAnswer: it ended without the server's end
    message, or with other counts than that says. AnswerBroken: the server's error in mid-answer.
    """
    call = connection.telemetry.QueryTelemetry(
        QueryTelemetryRequest(
            channels=selection.channels,
            capture_session_id=selection.capture_session_id,
            run_id=selection.run_id,
            start_at=selection.start_at(),
            end_at=selection.end_at(),
            view=view,
        )
    )
    chunks = samples = 0
    try:
        async for answer in call:
            if answer.WhichOneof("result") != "chunk":
                _check_end(answer, chunks, samples)
                return
            part = from_chunk(answer.chunk)
            chunks, samples = chunks + 1, samples + part.time_ns.size
            yield part
        raise IncompleteAnswer("the answer ended without its end message")
    finally:
        call.cancel()


async def read(connection: Connection, selection: Selection, *, view: View.ValueType = PHYSICAL) -> dict[str, Samples]:
    """All selected samples in memory, by channel. Errors as in `query`; ValueError: a channel has several units."""
    parts: dict[str, list[Samples]] = {}
    async for part in query(connection, selection, view=view):
        parts.setdefault(part.channel, []).append(part)
    return {channel: concatenate(of_channel) for channel, of_channel in parts.items()}


@dataclass(frozen=True)
class Points:
    """A channel decimated for drawing, in arrays of equal length. See the contract's DecimatedSeries."""

    channel: str
    unit: str
    conversion_profile_id: str
    samples: int
    time_ns: NDArray[np.int64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: NDArray[np.int64]


async def series(
    connection: Connection,
    selection: Selection,
    *,
    view: View.ValueType = PHYSICAL,
    max_points: int = 1000,
    method: GetSeriesRequest.Method.ValueType = GetSeriesRequest.MIN_MAX,
) -> list[Points]:
    """At most `max_points` (2 to 5000) points a channel, in the order of the selection or by name."""
    answer = await connection.telemetry.GetSeries(
        GetSeriesRequest(
            channels=selection.channels,
            capture_session_id=selection.capture_session_id,
            run_id=selection.run_id,
            start_at=selection.start_at(),
            end_at=selection.end_at(),
            view=view,
            max_points=max_points,
            method=method,
        )
    )
    return [
        Points(
            channel=one.channel,
            unit=one.unit,
            conversion_profile_id=one.conversion_profile_id,
            samples=one.samples,
            time_ns=np.array(one.time_ns, np.int64),
            min=np.array(one.min, np.float64),
            max=np.array(one.max, np.float64),
            mean=np.array(one.mean, np.float64),
            count=np.array(one.count, np.int64),
        )
        for one in answer.series
    ]


async def latest(
    connection: Connection, selection: Selection, *, view: View.ValueType = PHYSICAL
) -> dict[str, LatestSample]:
    """The newest sample by measured time and the last one received, by channel. Times are not selected by."""
    request = GetLatestRequest(
        channels=selection.channels,
        capture_session_id=selection.capture_session_id,
        run_id=selection.run_id,
        view=view,
    )
    answer = await connection.telemetry.GetLatest(request)
    return {sample.channel: sample for sample in answer.samples}


def _check_end(answer: QueryTelemetryResponse, chunks: int, samples: int) -> None:
    if answer.WhichOneof("result") == "error":
        raise AnswerBroken(answer.error.code, answer.error.message)
    end = answer.end
    if (end.cause, end.chunks, end.samples) != (StreamEnd.COMPLETE, chunks, samples):
        cause = StreamEnd.Cause.Name(end.cause)
        raise IncompleteAnswer(f"{samples} samples came of {end.samples}, and the end says {cause}")
