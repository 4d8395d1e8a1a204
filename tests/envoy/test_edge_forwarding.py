"""What a service is told of a caller: a real gRPC server behind a real Envoy notes what reaches it."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from edge_calls import Call, call_to

from rigmesh.v1.auth_pb2 import Me
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceServicer, add_AuthServiceServicer_to_server

Metadata = dict[str, str | bytes]


class Noting(AuthServiceServicer):
    """Keeps the metadata of the last call and answers with a cookie, as a login does."""

    def __init__(self) -> None:
        self.seen: Metadata = {}

    async def GetMe(self, request, context) -> Me:
        self.seen = dict(context.invocation_metadata())
        await context.send_initial_metadata((("set-cookie", "a=b; HttpOnly"), ("x-request-id", "from-service")))
        return Me(csrf_token="t")


@pytest.fixture(scope="module")
async def noting(start_envoy) -> AsyncIterator[tuple[Noting, Call]]:
    service = Noting()
    server = grpc.aio.server()
    add_AuthServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = await asyncio.to_thread(start_envoy, control_upstreams=f"127.0.0.1:{port}")
    yield service, call_to(f"127.0.0.1:{settings.http_port}")
    await server.stop(grace=0)


async def get_me(noting: tuple[Noting, Call], **headers: str) -> Metadata:
    service, call = noting
    answer = await asyncio.to_thread(call, "GET", "/api/v1/auth/me", **headers)
    assert answer.status == 200, answer.body
    return service.seen


@pytest.mark.parametrize("name", ["x-user-id", "x-project-role", "x-sensor-id", "x-real-ip", "x-forwarded-client-cert"])
async def test_caller_cannot_say_who_it_is(noting, name):
    assert name not in await get_me(noting, **{name: "forged"})


async def test_caller_cannot_say_where_it_comes_from(noting):
    seen = await get_me(noting, x_forwarded_for="9.9.9.9", x_envoy_external_address="9.9.9.9", x_envoy_internal="true")
    assert seen["x-envoy-external-address"] == "127.0.0.1"
    assert "9.9.9.9" not in str(seen)


async def test_what_services_judge_is_passed_on(noting):
    headers = {
        "authorization": "Bearer x",
        "cookie": "__Host-sid=s",
        "idempotency-key": "k",
        "sec-fetch-site": "cross-site",
        "x-csrf-token": "t",
        "x-request-id": "bench-7",
    }
    assert headers.items() <= (await get_me(noting, **headers)).items()


async def test_metadata_of_a_service_become_headers(noting):
    _, call = noting
    answer = await asyncio.to_thread(call, "GET", "/api/v1/auth/me")
    assert answer.headers["set-cookie"] == "a=b; HttpOnly"
    assert b'"csrf_token":"t"' in answer.body


async def test_zero_values_are_written(noting):
    _, call = noting
    answer = await asyncio.to_thread(call, "GET", "/api/v1/auth/me")
    assert b'"projects":[]' in answer.body
