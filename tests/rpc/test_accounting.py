"""Every call is logged and counted exactly once, whatever ends it and whenever its caller leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from rigmesh.v1 import telemetry_service_pb2
from rigmesh.v1.telemetry_service_pb2 import GetLatestRequest, QueryTelemetryRequest, QueryTelemetryResponse
from services.db.pool import open_pools
from services.rpc.admission import Admission
from services.rpc.call import Call
from services.rpc.contract import rpcs
from services.rpc.pipeline import Pipeline
from services.settings import Settings
from tests.factory import make_run

SERVICE = telemetry_service_pb2.DESCRIPTOR.services_by_name["TelemetryService"]


class PanicError(BaseException):
    """As PyO3's: not an Exception."""


class Caller:
    """The side of the wire that a handler sees."""

    def __init__(self, credential: tuple[str, str]) -> None:
        self._metadata = (credential,)
        self.code: grpc.StatusCode | None = None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def send_initial_metadata(self, metadata: object) -> None:
        pass

    async def abort(self, code: grpc.StatusCode, details: str, trailers: object) -> None:
        self.code = code
        raise grpc.aio.AbortError


Handle = Callable[..., Any]


@pytest.fixture
async def serve(rig: Any) -> AsyncIterator[Callable[..., Any]]:
    """Makes a handler of an RPC out of what its slice would do."""
    async with open_pools(Settings(), rig.database_url) as pools:
        pipeline = Pipeline(Admission(pools, b"k" * 32, lambda principal: None))

        def handler(name: str, handle: Handle) -> Any:
            slice_ = SimpleNamespace(**dict.fromkeys((rpc.name for rpc in rpcs(SERVICE)), handle))
            path = SimpleNamespace(method=f"/{SERVICE.full_name}/{name}", invocation_metadata=())
            return pipeline.handlers(SERVICE, slice_).service(path)

        yield handler


def ended(method: str) -> dict[str, float]:
    """How many calls have ended, by code."""
    kind = "unary" if method == "GetLatest" else "server_stream"
    labels = {"grpc_type": kind, "grpc_service": SERVICE.full_name, "grpc_method": method}
    return {
        code: REGISTRY.get_sample_value("grpc_server_handled_total", labels | {"grpc_code": code}) or 0.0
        for code in ("OK", "CANCELLED", "INTERNAL")
    }


async def break_off(request: QueryTelemetryRequest, call: Call) -> AsyncIterator[QueryTelemetryResponse]:
    yield QueryTelemetryResponse()
    raise PanicError


async def panic(request: GetLatestRequest, call: Call) -> None:
    raise PanicError


async def leave(request: GetLatestRequest, call: Call) -> None:
    raise asyncio.CancelledError


async def test_a_panic_is_an_internal_error_with_its_stack_in_the_log(lab: Any, serve: Any) -> None:
    before, caller = ended("GetLatest"), Caller(lab.viewer.metadata)
    with capture_logs() as logged, pytest.raises(grpc.aio.AbortError):
        await serve("GetLatest", panic).unary_unary(b"", caller)
    assert caller.code is grpc.StatusCode.INTERNAL
    assert ended("GetLatest") == before | {"INTERNAL": before["INTERNAL"] + 1}
    (line,) = [entry for entry in logged if entry["event"] == "call"]
    assert isinstance(line["exc_info"], PanicError)


async def test_a_caller_who_leaves_is_no_error(lab: Any, serve: Any) -> None:
    before, caller = ended("GetLatest"), Caller(lab.viewer.metadata)
    with pytest.raises(asyncio.CancelledError):
        await serve("GetLatest", leave).unary_unary(b"", caller)
    assert caller.code is None
    assert ended("GetLatest") == before | {"CANCELLED": before["CANCELLED"] + 1}


@pytest.mark.parametrize(("read", "code"), [(1, "CANCELLED"), (2, "INTERNAL"), (3, "INTERNAL")])
async def test_a_stream_is_accounted_for_wherever_its_caller_leaves(lab: Any, serve: Any, read: int, code: str) -> None:
    """The second message is the error, said in the stream; the third attempt meets the end."""
    before = ended("QueryTelemetry")
    request = QueryTelemetryRequest(run_id=(await make_run(lab)).run_id)
    stream = serve("QueryTelemetry", break_off).unary_stream(request.SerializeToString(), Caller(lab.viewer.metadata))
    with contextlib.suppress(grpc.aio.AbortError):
        for _ in range(read):
            await anext(stream)
    await stream.aclose()
    assert ended("QueryTelemetry") == before | {code: before[code] + 1}
