"""Messages that are too large, too dense, or none."""

from collections.abc import AsyncIterator

import grpc
import pytest

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.auth_service_pb2 import LoginRequest
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestRequest
from tests.conftest import Lab
from tests.e2e.conftest import Recording
from tests.telemetry.device import Device

MIB = 1 << 20
INGEST = "/rigmesh.v1.TelemetryIngestService/TelemetryIngest"
CREATE_PROJECT, LOGIN = "/rigmesh.v1.ProjectService/CreateProject", "/rigmesh.v1.AuthService/Login"
CALL_S = 15.0


@pytest.fixture
async def channel(edge: str) -> AsyncIterator[grpc.aio.Channel]:
    """A client that would send anything."""
    async with grpc.aio.insecure_channel(edge, [("grpc.max_send_message_length", -1)]) as channel:
        yield channel


async def code_of(call: grpc.aio.Call) -> str:
    return str((await call.code()).name)


@pytest.mark.parametrize(
    ("size", "code"),
    [(4 * MIB - 100, "INVALID_ARGUMENT"), (4 * MIB + 100, "RESOURCE_EXHAUSTED"), (8 * MIB, "RESOURCE_EXHAUSTED")],
)
async def test_a_message_over_4_mib_is_refused(channel: grpc.aio.Channel, lab: Lab, size: int, code: str) -> None:
    data = CreateProjectRequest(project=Project(name="x" * size)).SerializeToString()
    call = channel.unary_unary(CREATE_PROJECT)(data, metadata=(lab.owner.metadata,), timeout=CALL_S)
    assert await code_of(call) == code


async def test_a_compressed_bomb_is_refused(channel: grpc.aio.Channel) -> None:
    data = LoginRequest(username="x" * (256 * MIB), password="x").SerializeToString()
    call = channel.unary_unary(LOGIN)(data, timeout=CALL_S, compression=grpc.Compression.Gzip)
    assert await code_of(call) == "RESOURCE_EXHAUSTED"


async def test_a_small_compressed_message_is_taken(channel: grpc.aio.Channel, lab: Lab) -> None:
    data = CreateProjectRequest(project=Project(name="packed")).SerializeToString()
    call = channel.unary_unary(CREATE_PROJECT)(
        data, metadata=(lab.owner.metadata,), timeout=CALL_S, compression=grpc.Compression.Gzip
    )
    assert await code_of(call) == "OK"


@pytest.fixture
async def opened(channel: grpc.aio.Channel, recording: Recording) -> Device:
    """An open stream to which raw bytes can be written."""
    call = channel.stream_stream(INGEST)(metadata=(("authorization", f"Bearer {recording.token}"),), timeout=CALL_S)
    binding = pb.ChannelBinding(alias=1, signal="ax")
    await call.write(TelemetryIngestRequest(open=pb.Open(producer="imu", channels=[binding])).SerializeToString())
    assert await call.read() is not grpc.aio.EOF
    return Device(call)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff\xff\xff", "INVALID_ARGUMENT"),
        (b"", "INVALID_ARGUMENT"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "INVALID_ARGUMENT"),
        (TelemetryIngestRequest(loss=pb.Loss(reason="x" * 4 * MIB)).SerializeToString(), "RESOURCE_EXHAUSTED"),
    ],
    ids=["garbage", "empty", "length beyond the end", "over 4 MiB"],
)
async def test_a_bad_frame_ends_the_stream_with_its_code(opened: Device, data: bytes, code: str) -> None:
    await opened.call.write(data)
    assert await code_of(opened.call) == code
