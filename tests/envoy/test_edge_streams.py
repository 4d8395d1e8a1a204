"""gRPC and server-sent events through the same port as REST: nothing is held back, errors keep their details."""

import asyncio
import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from rigmesh.v1 import auth_service_pb2, auth_service_pb2_grpc
from rigmesh.v1.telemetry_ingest_service_pb2_grpc import TelemetryIngestServiceStub

DEADLINE_S = 15.0


@pytest.fixture
async def channel(edge: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(edge) as opened:
        yield opened


async def test_health_and_the_services_are_listed(channel):
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_replies_of_a_bidi_stream_come_before_its_end(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    stream = stub.ServerReflectionInfo(timeout=DEADLINE_S)
    for _ in range(3):
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        reply = await stream.read()
        assert reply.list_services_response.service
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_ingest_stream_reaches_telemetry_before_its_end(channel):
    stream = TelemetryIngestServiceStub(channel).TelemetryIngest(timeout=DEADLINE_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_details_of_a_service_error_arrive(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await auth_service_pb2_grpc.AuthServiceStub(channel).GetMe(auth_service_pb2.GetMeRequest(), timeout=DEADLINE_S)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert _reason(caught.value) == "UNAUTHENTICATED"


async def test_unknown_service_is_unimplemented(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/rigmesh.v1.NoSuchService/Get")(b"", timeout=DEADLINE_S)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert _reason(caught.value) == "NOT_FOUND"


def _reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    assert status is not None
    [info] = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    return error_details_pb2.ErrorInfo.FromString(info.value).reason


async def test_server_sent_events_come_as_they_are_made(call, edge, api_token):
    def read_first_event(path: str) -> tuple[str, bytes]:
        connection = HTTPConnection(edge, timeout=DEADLINE_S)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {api_token}"})
            response = connection.getresponse()
            return response.headers["content-type"], response.readline()
        finally:
            connection.close()

    run_id = _make_run(call, api_token)
    kind, line = await asyncio.to_thread(read_first_event, f"/api/v1/telemetry/stream?run_id={run_id}")
    assert kind == "text/event-stream"
    assert line.startswith(b"data: {")


def _make_run(call, api_token: str) -> str:
    def create(path: str, **fields: str) -> dict[str, str]:
        headers = {"content_type": "application/json", "authorization": f"Bearer {api_token}"}
        answer = call("POST", path, json.dumps({"name": "edge", **fields}).encode(), **headers)
        assert answer.status == 200, answer.body
        created: dict[str, str] = json.loads(answer.body)
        return created

    project = create("/api/v1/projects")
    experiment = create("/api/v1/experiments", project_id=project["project_id"])
    return create(f"/api/v1/experiments/{experiment['experiment_id']}/runs")["run_id"]
