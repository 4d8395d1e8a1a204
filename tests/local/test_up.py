import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.cluster import existing
from services.settings import Settings
from tests.ports import free_ports

FIRST = free_ports(8)
PORTS = {
    "RIGMESH_HTTP_PORT": str(FIRST),
    "RIGMESH_GRPC_PORT": str(FIRST + 1),
    "RIGMESH_ADMIN_PORT": str(FIRST + 3),
}
EDGE, CONTROL = f"127.0.0.1:{FIRST}", f"127.0.0.1:{FIRST + 1}"
START_TIMEOUT_S = 60


async def rigmesh(data_dir: Path, *arguments: str) -> Process:
    environment = os.environ | PORTS | {"RIGMESH_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "services", *arguments]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)


async def ready(process: Process) -> str:
    """All that it printed until it was ready."""
    assert process.stdout
    printed = ""
    async with asyncio.timeout(START_TIMEOUT_S):
        while f"metrics http://127.0.0.1:{FIRST + 4}" not in printed:
            line = (await process.stdout.readline()).decode()
            assert line, await process.communicate()
            printed += line
    return printed


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[tuple[Process, str]]:
    """A `rigmesh up` that is ready, and what it has printed."""
    process = await rigmesh(data_dir, "up")
    try:
        yield process, await ready(process)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def serves(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def child_of(parent: Process, word: str) -> int:
    """The process id of the child whose command line has the word."""
    for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split():
        if word in Path(f"/proc/{pid}/cmdline").read_text():
            return int(pid)
    raise AssertionError(f"no child runs {word}")


async def test_first_run_second_one_and_stop(data_dir: Path) -> None:
    """Ready means that all answers, through Envoy too; one signal stops everything within 10 s."""
    async with running(data_dir) as (first, printed):
        assert await serves(EDGE)
        credentials = json.loads((data_dir / "admin-credentials.json").read_text())
        assert credentials["password"] in printed
        assert (data_dir / "admin-credentials.json").stat().st_mode & 0o777 == 0o600

        second = await rigmesh(data_dir, "up")
        _, refusal = await second.communicate()
        assert second.returncode == 1
        assert f"in use by another Rigmesh (process {first.pid})" in refusal.decode()
        assert "Traceback" not in refusal.decode()

        started_at = time.monotonic()
        first.send_signal(signal.SIGINT)
        output, errors = await first.communicate()
        assert time.monotonic() - started_at < 10
        assert (first.returncode, errors) == (0, b"")
        assert output.decode().splitlines()[-1] == "rigmesh: stopped"


async def timed_stop(process: Process) -> float:
    """Seconds from the signal to the end."""
    started_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    await process.communicate()
    return time.monotonic() - started_at


def assert_database_stopped_in_order(data_dir: Path) -> None:
    log = (data_dir / "logs/postgres.log").read_text()
    assert "received fast shutdown request" in log
    assert "immediate shutdown" not in log
    assert log.rstrip().endswith("database system is shut down")


async def test_a_stream_that_never_ends_is_cut(data_dir: Path) -> None:
    async with running(data_dir) as (process, _), grpc.aio.insecure_channel(CONTROL) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert Settings().drain_timeout_s <= await timed_stop(process) < 8
    assert_database_stopped_in_order(data_dir)


async def test_a_role_that_hangs_takes_no_time_from_the_database(data_dir: Path) -> None:
    """It is ended by force while the database can still stop in order, and all is over within 10 s."""
    async with running(data_dir) as (process, _):
        os.kill(child_of(process, "telemetry"), signal.SIGSTOP)
        assert await timed_stop(process) < 10
    assert_database_stopped_in_order(data_dir)


async def test_each_part_comes_back_after_kill_9(data_dir: Path) -> None:
    """A role, Envoy, and `rigmesh up` itself with everything under it."""
    async with running(data_dir) as (process, _):
        assert process.stdout
        for address, name, word in ((CONTROL, "control", "control"), (EDGE, "Envoy", "envoy.yaml")):
            victim = child_of(process, word)
            os.kill(victim, signal.SIGKILL)
            assert f"{name} was ended by SIGKILL" in (await process.stdout.readline()).decode()
            async with asyncio.timeout(20):
                while not await serves(address):  # noqa: ASYNC110 other processes set no event
                    await asyncio.sleep(0.05)
            assert child_of(process, word) != victim
        process.kill()
        await process.communicate()
        async with running(data_dir):
            assert await serves(EDGE)


async def test_reset_password_beside_a_running_rigmesh(data_dir: Path) -> None:
    """Database access is enough: the password changes, the user's sessions end, and the change is an event."""
    async with running(data_dir), existing(data_dir) as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
            before = await anext(await db.execute("SELECT user_id, password_hash FROM users"))
            await db.execute(
                "INSERT INTO sessions (session_id, secret_hash, user_id, expires_at)"
                " VALUES (gen_random_uuid(), 'x', %s, now() + interval '1 hour')",
                [before[0]],
            )
            process = await rigmesh(data_dir, "admin", "reset-password", "Admin")
            password, _ = await process.communicate()
            assert len(password.strip()) == 24
            assert (await anext(await db.execute("SELECT password_hash FROM users")))[0] != before[1]
            assert (await anext(await db.execute("SELECT count(*) FROM sessions WHERE ended_at IS NULL")))[0] == 0
            events = await (await db.execute("SELECT type FROM events ORDER BY event_id")).fetchall()
            assert events == [("user.created",), ("user.password_reset",)]
        process = await rigmesh(data_dir, "admin", "reset-password", "nobody")
        assert await process.communicate() == (b"", b"error: there is no user 'nobody'\n")
        assert process.returncode == 1
