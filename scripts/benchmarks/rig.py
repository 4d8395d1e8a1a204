"""A Rigmesh of the benchmark's own, as `rigmesh up` starts it, with four sensors that may stream; gone at the end."""

import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from rigmesh.v1.auth_service_pb2 import LoginRequest
from rigmesh.v1.capture_service_pb2 import CreateCaptureSessionRequest
from rigmesh.v1.capture_session_pb2 import CaptureSession
from rigmesh.v1.experiment_pb2 import Experiment
from rigmesh.v1.experiment_service_pb2 import CreateExperimentRequest
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest
from rigmesh.v1.run_pb2 import Run
from rigmesh.v1.run_service_pb2 import AttachSensorRequest, CreateRunRequest, UpdateRunRequest
from rigmesh.v1.sensor_pb2 import Sensor
from rigmesh.v1.sensor_service_pb2 import CreateSensorRequest
from rigmesh_client import Connection, connect
from samples.demo.server import running
from samples.demo.study import create_tokens
from services.local.cluster import SUPERUSER, existing
from services.settings import Settings

STREAMS = 4
DISK_BYTES = 8 << 30


class BenchError(Exception):
    """There is no figure; the text says why."""


@dataclass(frozen=True)
class Rig:
    """Endpoints as the SDK takes them. `tokens` are of sensors that are attached to the run."""

    direct: str
    envoy: str
    connection: Connection
    run_id: str
    tokens: tuple[str, ...]
    database: str
    """As the superuser, like `db`, which is in autocommit."""
    db: psycopg.AsyncConnection
    load_process: ProcessPoolExecutor

    async def new_session(self) -> str:
        """A capture session that is RUNNING and empty."""
        request = CreateCaptureSessionRequest(run_id=self.run_id, capture_session=CaptureSession(name="bench"))
        return (await self.connection.captures.CreateCaptureSession(request)).capture_session_id


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Rig]:
    """Runs Rigmesh on an empty folder. Raises BenchError, ServerError and CannotStartError when it cannot."""
    require_disk(folder)
    settings = _own_settings(folder)
    envoy = f"http://127.0.0.1:{settings.http_port}"
    context = get_context("spawn")  # a fork would inherit gRPC's threads as they stand
    async with running(settings), existing(folder) as url:
        database = make_conninfo(url, user=SUPERUSER)
        token = (await create_tokens(envoy, _admin(folder))).write
        async with (
            connect(envoy, token) as connection,
            await psycopg.AsyncConnection.connect(database, autocommit=True) as db,
        ):
            run_id, tokens = await _make_run(connection)
            with ProcessPoolExecutor(1, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as load_process:
                direct = f"http://127.0.0.1:{settings.role_grpc_port('telemetry')}"
                yield Rig(direct, envoy, connection, run_id, tokens, database, db, load_process)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """On a disk: Debian 13 has /tmp in memory, where fsync costs nothing."""
    parent = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108 - the folder in it has a random name
    with tempfile.TemporaryDirectory(prefix="rigmesh-bench-", dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o755)  # so that the user who runs PostgreSQL can enter it
        try:
            yield folder
        finally:
            # where that user cannot enter a folder above it, this is a link to elsewhere
            shutil.rmtree((folder / "postgres").resolve(), ignore_errors=True)


def require_disk(folder: Path, needed_bytes: int = DISK_BYTES) -> None:
    """Raises BenchError when less than that is free there."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise BenchError(
            f"{folder.parent} has {free_bytes / 2**30:.1f} GiB free and the benchmark needs "
            f"{needed_bytes / 2**30:.0f}: make room there, or name another folder with TMPDIR"
        )


def _own_settings(folder: Path) -> Settings:
    """The defaults: what the environment says of another Rigmesh must not reach this one."""
    for name in [name for name in os.environ if name.startswith("RIGMESH_")]:
        del os.environ[name]
    port = _free_ports(8)
    os.environ["RIGMESH_DATA_DIR"] = str(folder)
    os.environ["RIGMESH_HTTP_PORT"] = str(port)
    os.environ["RIGMESH_GRPC_PORT"] = str(port + 1)
    os.environ["RIGMESH_ADMIN_PORT"] = str(port + 3)
    return Settings()


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        with ExitStack() as stack:
            first = int(stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
            try:
                for port in range(first + 1, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError):
                continue
            return first


def _admin(folder: Path) -> LoginRequest:
    return LoginRequest(**json.loads((folder / "admin-credentials.json").read_text()))


async def _make_run(connection: Connection) -> tuple[str, tuple[str, ...]]:
    project = await connection.projects.CreateProject(CreateProjectRequest(project=Project(name="Benchmark")))
    experiment = await connection.experiments.CreateExperiment(
        CreateExperimentRequest(experiment=Experiment(project_id=project.project_id, name="Benchmark"))
    )
    run = await connection.runs.CreateRun(
        CreateRunRequest(experiment_id=experiment.experiment_id, run=Run(name="Benchmark"))
    )
    await connection.runs.UpdateRun(UpdateRunRequest(run_id=run.run_id, run=Run(status=Run.RUNNING)))
    tokens = []
    for number in range(STREAMS):
        sensor = await connection.sensors.CreateSensor(
            CreateSensorRequest(sensor=Sensor(name=f"Bench {number}", project_ids=[project.project_id]))
        )
        await connection.runs.AttachSensor(AttachSensorRequest(run_id=run.run_id, sensor_id=sensor.sensor_id))
        tokens.append(sensor.token)
    return run.run_id, tuple(tokens)
