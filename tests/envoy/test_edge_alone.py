"""A real Envoy with nothing behind it: what it answers out of itself."""

import json

import grpc
import pytest
from edge_calls import DEADLINE_S, call_to

from rigmesh.v1 import auth_service_pb2, auth_service_pb2_grpc

PORTAL = "https://portal.example"


@pytest.fixture(scope="module")
def alone(start_envoy):
    return start_envoy(cors_origins=PORTAL)


@pytest.fixture
def ask(alone):
    return call_to(f"127.0.0.1:{alone.http_port}")


def test_service_that_is_away_is_told_as_unavailable(ask):
    answer = ask("GET", "/api/v1/projects")
    assert (answer.status, answer.reason) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"
    assert json.loads(answer.body)["code"] == grpc.StatusCode.UNAVAILABLE.value[0]
    assert b"upstream" not in answer.body


async def test_service_that_is_away_is_unavailable_over_grpc(alone):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{alone.http_port}") as channel:
        stub = auth_service_pb2_grpc.AuthServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMe(auth_service_pb2.GetMeRequest(), timeout=DEADLINE_S)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_listed_origin_may_call_with_credentials(ask):
    asked = ask("OPTIONS", "/api/v1/auth/logout", origin=PORTAL, access_control_request_method="POST")
    assert asked.status == 200
    assert asked.headers["access-control-allow-origin"] == PORTAL
    assert asked.headers["access-control-allow-credentials"] == "true"
    assert "idempotency-key" in asked.headers["access-control-allow-headers"]
    # Past the edge's own check, to the service that is away.
    answer = ask("POST", "/api/v1/auth/logout", origin=PORTAL)
    assert answer.status == 503
    assert answer.headers["access-control-allow-origin"] == PORTAL


def test_admin_interface_only_tells(alone):
    ask = call_to(f"127.0.0.1:{alone.envoy_admin_port}")
    assert ask("GET", "/stats/prometheus").status == 200
    for path in ("/quitquitquit", "/config_dump", "/logging"):
        assert ask("POST", path).status in {403, 404}
