"""`rigmesh up`: database, migrations, one process per role, Envoy; and the way back."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from rigmesh_edge.binary import command as envoy_command
from rigmesh_edge.render import render
from services.db.migrate import migrate
from services.instance_key import load_or_create
from services.local.cluster import serving
from services.local.first_run import seed_admin
from services.local.folder import CannotStartError, locked, make_folder
from services.local.health import wait_until_serving
from services.local.ports import address, require_free
from services.local.process import bound, start
from services.local.stop import Stop
from services.local.supervise import Child, supervised
from services.settings import ROLES, Settings

LOG_CHECK_S = 10.0
OPEN_FILES = 65536

Report = Callable[[str], None]


async def up(settings: Settings, report: Report) -> None:
    """Runs until SIGINT, SIGTERM or SIGHUP; `report` gets what the user should read.

    Raises CannotStartError, MigrationError or InstanceKeyError when it cannot start; what runs then is stopped.
    """
    task = asyncio.current_task()
    assert task is not None
    stop = Stop(task, report, settings.drain_timeout_s)
    try:
        await _run(settings, stop, report)
    except asyncio.CancelledError:
        if not stop.requested:
            raise
        report("stopped")


async def _run(settings: Settings, stop: Stop, report: Report) -> None:
    folder = make_folder(settings.data_dir)
    settings = settings.model_copy(update={"data_dir": folder})
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(folder))
        await require_free(settings)
        report(f"Rigmesh {version('rigmesh')}; data in {folder}, logs in {folder}/logs")
        settings = await stack.enter_async_context(_database(settings, stop, report))
        await _prepare(settings, report)
        await stack.enter_async_context(_servers(settings, stop, report))
        report(_addresses(settings))
        while True:
            for log in (folder / "logs").glob("*.log"):
                bound(log)
            await asyncio.sleep(LOG_CHECK_S)


@asynccontextmanager
async def _database(settings: Settings, stop: Stop, report: Report) -> AsyncIterator[Settings]:
    if settings.database_url:
        report("using the database that RIGMESH_DATABASE_URL names")
        yield settings
        return
    report("starting the embedded database")
    async with serving(settings.data_dir, {}, stop.database_hurried, report) as url:
        yield settings.model_copy(update={"database_url": url, "owner_database_url": ""})


async def _prepare(settings: Settings, report: Report) -> None:
    applied = await migrate(settings.owner_url, settings.database_url)
    if applied:
        report(f"migrations applied: {', '.join(applied)}")
    load_or_create(settings.key_file)
    await seed_admin(settings.owner_url, settings.data_dir, report)


@asynccontextmanager
async def _servers(settings: Settings, stop: Stop, report: Report) -> AsyncIterator[None]:
    _raise_open_files()
    logs = settings.data_dir / "logs"
    try:
        config = render(settings, settings.data_dir / "envoy")
    except ValueError as error:
        raise CannotStartError(f"Envoy's configuration: {error}") from error
    environment = os.environ | _variables(settings)
    commands = {role: [sys.executable, "-P", "-m", "services", "serve", role] for role in ROLES}
    roles = {role: _child(role, commands[role], logs, environment, stop, report) for role in ROLES}
    envoy = _child("Envoy", envoy_command(config), logs, environment, stop, report)
    # Envoy outlives the roles at the stop: their last acks go through it.
    async with supervised(envoy), supervised(*roles.values()):
        tls = settings.tls_cert
        for role, child in roles.items():
            await wait_until_serving(
                child, address(settings.bind, settings.role_grpc_port(role)), tls, logs / f"{role}.log"
            )
        await wait_until_serving(envoy, address(settings.bind, settings.http_port), tls, logs / "envoy.log")
        yield


def _child(name: str, command: list[str], logs: Path, environment: dict[str, str], stop: Stop, report: Report) -> Child:
    async def launch() -> asyncio.subprocess.Process:
        # When this process is killed they go at once: the next `up` wants their ports.
        log = logs / f"{name.lower()}.log"
        return await start(command, log, when_orphaned=signal.SIGKILL, environment=environment)

    return Child(name, launch, report, stop.hurried)


def _variables(settings: Settings) -> dict[str, str]:
    """The settings as a child process reads them: also what was not given by the environment."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {
        f"RIGMESH_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in values.items()
        if value is not None
    }


def _raise_open_files() -> None:
    """Ten thousand connections take as many files in Envoy; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _addresses(settings: Settings) -> str:
    scheme = "https" if settings.tls_cert else "http"
    lines = [f"ready: REST, SSE and gRPC at {scheme}://{address(settings.bind, settings.http_port)}"]
    for role in ROLES:
        direct, metrics = (
            address(settings.bind, port) for port in (settings.role_grpc_port(role), settings.role_admin_port(role))
        )
        lines.append(f"  {role:<10} gRPC {direct}, metrics http://{metrics}/metrics")
    return "\n".join(lines)
