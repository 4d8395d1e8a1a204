"""A PostgreSQL cluster of Rigmesh's own: made on first use, reached through a socket only, restarted when it dies.

Who may connect is decided by the kernel, not by a password that would have to lie somewhere: `peer` maps the user who
started Rigmesh (and root) to the database's roles, and nobody else. There is no TCP port.
"""

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import structlog

from services.files import sync_folder
from services.local import configuration
from services.local.account import Account, server_account
from services.local.folder import CannotStartError, locked, make_folder
from services.local.home import make_home, socket_folder
from services.local.leftover import servers, stop_leftover
from services.local.process import last_lines, start
from services.local.supervise import Child, supervised

DATABASE = "rigmesh"
SUPERUSER = "postgres"
# After a crash the server first replays its log: some GiB at most, as max_wal_size says.
START_TIMEOUT_S = 600.0
POLL_S = 0.02


def bin_folder() -> Path:
    """PostgreSQL's programs, as ./scripts/setup left them. Raises CannotStartError when it has not run."""
    record = Path(sys.prefix) / "postgres-bindir"
    folder = Path(record.read_text().strip()) if record.exists() else None
    if folder is None or not (folder / "postgres").exists():
        raise CannotStartError(
            "no PostgreSQL with TimescaleDB for the embedded database: run ./scripts/setup, or set RIGMESH_DATABASE_URL"
        )
    return folder


@asynccontextmanager
async def cluster(data_dir: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """Runs the cluster of a data folder and gives its URL, as the owner of the database `rigmesh`.

    Made when absent; stopped at the end. `settings` are PostgreSQL's, over the tuned ones ({"fsync": "off"} for tests).
    Raises CannotStartError, also when another process runs it.
    """
    folder = make_folder(data_dir)
    with locked(folder):
        async with serving(
            folder, settings or {}, asyncio.Event(), structlog.get_logger("rigmesh.local").warning
        ) as url:
            yield url


@asynccontextmanager
async def serving(
    folder: Path, settings: Mapping[str, str], hurried: asyncio.Event, report: Callable[[str], None]
) -> AsyncIterator[str]:
    """What `cluster` does, for a caller that holds the folder's lock. `hurried` ends the stop without a checkpoint."""
    account, programs, log = server_account(), bin_folder(), folder / "logs" / "postgres.log"
    home = make_home(folder, account)
    data, socket = home / "data", socket_folder(home, account)
    if not data.exists():
        await _initialise(programs, home, account, log)

    async def launch() -> asyncio.subprocess.Process:
        await stop_leftover(data)
        configuration.write(data, socket, programs, settings)
        command = [str(programs / "postgres"), "-D", str(data)]
        return await start(
            command, log, when_orphaned=signal.SIGINT, environment=configuration.ENVIRONMENT, account=account
        )

    server = Child("PostgreSQL", launch, report, hurried, stop_signal=signal.SIGINT, last_signal=signal.SIGQUIT)
    async with supervised(server):
        await _wait_until_ready(server, data, log)
        await _make_database(socket)
        yield url(socket)


def url(socket: Path, user: str = DATABASE, database: str = DATABASE) -> str:
    """The URL of a database of the cluster with that socket."""
    return f"postgresql://{user}@/{database}?host={quote(str(socket), safe='')}"


@asynccontextmanager
async def existing(data_dir: Path) -> AsyncIterator[str]:
    """The URL of the cluster that lies in a data folder: as it runs, or run meanwhile.

    Raises CannotStartError when there is none.
    """
    data = _data(data_dir)
    status = _status(data)
    if status[-1:] == ["ready"] and servers(data):
        yield url(Path(status[4]))
    else:
        async with cluster(data_dir) as started:
            yield started


def _data(data_dir: Path) -> Path:
    data = (data_dir / "postgres" / "data").resolve()
    if not data.exists():
        raise CannotStartError(
            f"there is no database in {data_dir.absolute()} yet: run `rigmesh up` first, or set RIGMESH_DATABASE_URL"
        )
    return data


async def _initialise(programs: Path, home: Path, account: Account, log: Path) -> None:
    new = home / "data.new"  # renamed when complete, so that a crash in between leaves nothing half made
    shutil.rmtree(new, ignore_errors=True)
    command = [str(programs / "initdb"), "-D", str(new), *configuration.INITDB, f"--username={SUPERUSER}"]
    environment = configuration.ENVIRONMENT
    process = await start(command, log, when_orphaned=signal.SIGKILL, environment=environment, account=account)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if code:
        raise CannotStartError(f"the database could not be made in {home}:\n{last_lines(log)}")
    new.rename(home / "data")
    sync_folder(home)  # else a power cut could take the name back, and the next start would begin anew


async def _wait_until_ready(server: Child, data: Path, log: Path) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not _is_ready(server, data):
                if server.failures:
                    raise CannotStartError(f"PostgreSQL {server.outcome}; the end of {log}:\n{last_lines(log)}")
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise CannotStartError(f"PostgreSQL was not ready after {START_TIMEOUT_S:.0f} s; its log is {log}") from None


def _is_ready(server: Child, data: Path) -> bool:
    # The process id matters: the file that a killed server left behind says "ready", too.
    status = _status(data)
    return bool(server.process and status and status[0] == str(server.process.pid) and status[-1] == "ready")


def _status(data: Path) -> list[str]:
    """The lines of postmaster.pid: process id, folder, start, port, socket folder, address, memory, state."""
    try:
        lines = [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []
    return lines if len(lines) == 8 else []


async def _make_database(socket: Path) -> None:
    address = url(socket, SUPERUSER, SUPERUSER)
    async with await psycopg.AsyncConnection.connect(address, autocommit=True, connect_timeout=10) as connection:
        query = "SELECT to_regrole(%s) IS NULL, NOT EXISTS (SELECT FROM pg_database WHERE datname = %s)"
        no_role, no_database = await anext(await connection.execute(query, [DATABASE, DATABASE]))
        if no_role:
            await connection.execute(f"CREATE ROLE {DATABASE} LOGIN CREATEDB".encode())
        if no_database:
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {DATABASE}".encode())
