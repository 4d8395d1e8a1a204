"""A whole Rigmesh for the test session, as `rigmesh up` starts it; each test works in a project of its own."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from uuid_utils import uuid7

from rigmesh.v1 import project_service_pb2_grpc, user_service_pb2_grpc
from rigmesh.v1.project_pb2 import Member, Project
from rigmesh.v1.project_service_pb2 import AddMemberRequest, CreateProjectRequest
from rigmesh.v1.user_pb2 import User
from rigmesh.v1.user_service_pb2 import CreateUserRequest
from services.local.cluster import existing
from tests.ports import free_port, free_ports
from tests.sign_in import PASSWORD, sign_in

START_S, STOP_S, CALL_S = 90.0, 20.0, 15.0


@dataclass(frozen=True)
class Caller:
    """Somebody with a token. `stub` gives async stubs that send it along."""

    user_id: str
    username: str
    token: str
    channel: grpc.aio.Channel

    @property
    def metadata(self) -> tuple[str, str]:
        return ("authorization", f"Bearer {self.token}")

    def at(self, channel: grpc.aio.Channel) -> "Caller":
        """The same caller, speaking to another server."""
        return replace(self, channel=channel)

    def stub(self, stub_class: Callable[[grpc.aio.Channel], Any]) -> Any:
        return _Stub(stub_class(self.channel), self.metadata)


class _Stub:
    def __init__(self, stub: Any, credential: tuple[str, str]) -> None:
        self._stub, self._credential = stub, credential

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*request: Any, metadata: tuple[tuple[str, str], ...] = (), timeout: float = CALL_S) -> Any:
            return getattr(self._stub, name)(*request, metadata=(self._credential, *metadata), timeout=timeout)

        return call


@dataclass(frozen=True)
class Rig:
    """Addresses are host:port. `admin` may do what administrators may; `pid` is `rigmesh up`."""

    envoy: str
    control: str
    telemetry: str
    control_admin: str
    telemetry_admin: str
    database_url: str
    data_dir: Path
    pid: int
    admin: Caller
    channel: grpc.aio.Channel
    telemetry_channel: grpc.aio.Channel
    people: dict[str, Caller]


@dataclass(frozen=True)
class Lab:
    """A project with its members, and somebody who is none."""

    project_id: str
    owner: Caller
    editor: Caller
    viewer: Caller
    outsider: Caller


@pytest.fixture(scope="session")
async def rig() -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="rigmesh-test-", ignore_cleanup_errors=True) as folder:
        # So that the user who runs PostgreSQL can enter it and the database lies, and is removed, with the rest.
        Path(folder).chmod(0o755)
        http, grpc_port, admin_port = free_port(), free_ports(2), free_ports(5)
        environment = os.environ | {
            "RIGMESH_DATA_DIR": folder,
            "RIGMESH_HTTP_PORT": str(http),
            "RIGMESH_GRPC_PORT": str(grpc_port),
            "RIGMESH_ADMIN_PORT": str(admin_port),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services", "up", env=environment, stdout=asyncio.subprocess.PIPE
        )
        try:
            await asyncio.wait_for(_ready(process), START_S)
            async with (
                existing(Path(folder)) as url,
                grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
                grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port + 1}") as telemetry_channel,
            ):
                admin = await _admin(channel, Path(folder))
                yield Rig(
                    envoy=f"127.0.0.1:{http}",
                    control=f"127.0.0.1:{grpc_port}",
                    telemetry=f"127.0.0.1:{grpc_port + 1}",
                    control_admin=f"127.0.0.1:{admin_port}",
                    telemetry_admin=f"127.0.0.1:{admin_port + 1}",
                    database_url=url,
                    data_dir=Path(folder),
                    pid=process.pid,
                    admin=admin,
                    channel=channel,
                    telemetry_channel=telemetry_channel,
                    people={role: await _person(admin, role) for role in ("owner", "editor", "viewer", "outsider")},
                )
        finally:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), STOP_S)


@pytest.fixture
async def lab(rig: Rig) -> Lab:
    people = rig.people
    projects = people["owner"].stub(project_service_pb2_grpc.ProjectServiceStub)
    project = await projects.CreateProject(CreateProjectRequest(project=Project(name="a test's project")))
    for role in ("editor", "viewer"):
        await projects.AddMember(
            AddMemberRequest(
                project_id=project.project_id, user_id=people[role].user_id, role=Member.Role.Value(role.upper())
            )
        )
    return Lab(project.project_id, **people)


@pytest.fixture(scope="session")
def edge(rig: Rig) -> str:
    return rig.envoy


@pytest.fixture(scope="session")
def api_token(rig: Rig) -> str:
    return rig.people["owner"].token


async def _ready(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if b"ready:" in line:
            return
    raise AssertionError("`rigmesh up` ended before it was ready")


async def _admin(channel: grpc.aio.Channel, folder: Path) -> Caller:
    credentials = json.loads((folder / "admin-credentials.json").read_text())
    username, password = credentials["username"], credentials["password"]
    user_id, token = await sign_in(channel, username, password, ["READ", "WRITE", "ADMIN"])
    return Caller(user_id, username, token, channel)


async def _person(admin: Caller, role: str) -> Caller:
    username = f"{role}-{str(uuid7())[-12:]}"
    users = admin.stub(user_service_pb2_grpc.UserServiceStub)
    await users.CreateUser(CreateUserRequest(user=User(username=username, password=PASSWORD)))
    user_id, token = await sign_in(admin.channel, username, PASSWORD, ["READ", "WRITE"])
    return Caller(user_id, username, token, admin.channel)
