"""What comes in is a message of the method, or it is refused with one fixed text."""

import json
from typing import Any

import grpc
import pytest

from rigmesh.v1.auth_service_pb2 import CreateApiTokenRequest
from rigmesh.v1.project_service_pb2 import GetProjectRequest
from rigmesh.v1.sensor_pb2 import Sensor
from rigmesh.v1.sensor_service_pb2 import CreateSensorRequest
from rigmesh.v1.sensor_service_pb2_grpc import SensorServiceStub
from tests.e2e.rest import Rest
from tests.refusals import refused

GET_PROJECT = "/rigmesh.v1.ProjectService/GetProject"
CREATE_PROJECT = "/rigmesh.v1.ProjectService/CreateProject"
CREATE_API_TOKEN = "/rigmesh.v1.AuthService/CreateApiToken"


def nested(depth: int) -> bytes:
    """CreateProjectRequest in an unknown field that is nested too deep for any parser."""
    data = b""
    for _ in range(depth):
        data = b"\x7b" + data + b"\x7c"
    return data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff\xff\xff", id="no tag"),
        pytest.param(b"\x0a\xff", id="cut off"),
        pytest.param(b"\x0a\x02\x0a\x05", id="cut off inside"),
        pytest.param(b"\x0a\x04\x12\x02\xff\xfe", id="not UTF-8"),
        pytest.param(nested(200), id="nested too deep"),
    ],
)
async def test_bytes_that_are_no_message_get_one_fixed_text(lab: Any, channel: grpc.aio.Channel, data: bytes) -> None:
    with refused("INVALID_ARGUMENT", "MALFORMED_REQUEST") as refusal:
        await channel.unary_unary(CREATE_PROJECT)(data, metadata=(lab.owner.metadata,))
    assert refusal.text == "the request is not a valid message of this method"


async def test_nul_is_refused_before_the_database_would(lab: Any, channel: grpc.aio.Channel) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await channel.unary_unary(CREATE_PROJECT)(b"\x0a\x06\x12\x01x\x1a\x01\0", metadata=(lab.owner.metadata,))
    assert refusal.fields == ["project.description"]


async def test_a_flood_of_broken_fields_still_gets_an_answer(lab: Any, channel: grpc.aio.Channel) -> None:
    data = CreateApiTokenRequest(api_token={"name": "x", "scopes": [0] * 5000}).SerializeToString()
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await channel.unary_unary(CREATE_API_TOKEN)(data, metadata=(lab.owner.metadata,))
    assert 1 <= len(refusal.fields) <= 16


@pytest.mark.parametrize("letter", ["k", "é"])
async def test_a_long_key_is_not_repeated_in_full(lab: Any, channel: grpc.aio.Channel, letter: str) -> None:
    sensor = Sensor(name="x", project_ids=[lab.project_id], labels={letter * 20_000: "v"})
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await lab.editor.at(channel).stub(SensorServiceStub).CreateSensor(CreateSensorRequest(sensor=sensor))
    (field,) = refusal.fields
    assert field.startswith(f"sensor.labels[{letter * 10}")
    assert len(field) <= 64


async def test_a_long_key_is_refused_through_the_edge_too(rig: Any, lab: Any) -> None:
    """Which takes 8 KiB of headers at most, and else makes a 502 of it."""
    editor = Rest(rig.envoy, {"authorization": f"Bearer {lab.editor.token}"})
    sensor = {"name": "x", "project_ids": [lab.project_id], "labels": {"é" * 20_000: "v"}}
    answer = await editor.ask("POST", "/sensors", sensor)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, 3)


@pytest.mark.parametrize(
    ("sent", "kept"), [("bench-7.run_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False)]
)
async def test_the_request_id_comes_back(lab: Any, channel: grpc.aio.Channel, sent: str, kept: bool) -> None:
    data = GetProjectRequest(project_id=lab.project_id).SerializeToString()
    call = channel.unary_unary(GET_PROJECT)(data, metadata=(lab.owner.metadata, ("x-request-id", sent)))
    await call
    request_id = dict(await call.initial_metadata())["x-request-id"]
    assert (request_id == sent) is kept
    assert request_id


async def test_an_error_carries_the_request_id_twice(lab: Any, channel: grpc.aio.Channel) -> None:
    data = GetProjectRequest(project_id="none").SerializeToString()
    call = channel.unary_unary(GET_PROJECT)(data, metadata=(lab.owner.metadata, ("x-request-id", "mine")))
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
        await call
    trailers = dict(await call.trailing_metadata())
    assert trailers["x-request-id"] == "mine"
    assert b"google.rpc.RequestInfo" in trailers["grpc-status-details-bin"]
