import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from services.local.account import server_account
from services.local.cluster import bin_folder, cluster, existing
from services.local.folder import CannotStartError

FAST = {"fsync": "off", "shared_buffers": "16MB", "wal_buffers": "1MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}
HOLD = """
import asyncio, sys
from pathlib import Path
from services.local.cluster import cluster
async def hold():
    async with cluster(Path(sys.argv[1]), {"fsync": "off"}) as url:
        print(url, flush=True)
        await asyncio.Event().wait()
asyncio.run(hold())
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")


async def fetch(url: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(query.encode())
        return (await anext(cursor))[0] if cursor.description else None


async def eventually(attempt: Callable[[], Awaitable[object]], timeout_s: float = 15) -> object:
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await attempt()
            except psycopg.OperationalError:
                await asyncio.sleep(0.05)


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/data/postmaster.pid").read_text().split()[0])


@pytest.fixture
def closed_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody but its owner can enter; what a cluster leaves elsewhere is removed."""
    tmp_path.chmod(0o700)
    folder = tmp_path / "data"
    yield folder
    home = (folder / "postgres").resolve()
    if not home.is_relative_to(tmp_path):
        shutil.rmtree(home)


async def test_data_outlives_a_stop(data_dir: Path) -> None:
    """The first start makes the cluster, the next one finds what was committed; there is no TCP port."""
    async with cluster(data_dir, FAST) as url:
        await fetch(url, "CREATE EXTENSION timescaledb")
        await fetch(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with cluster(data_dir, FAST) as url:
        assert await fetch(url, "SELECT answer FROM kept") == 42
        assert await fetch(url, "SHOW listen_addresses") == ""
        assert await fetch(url, "SHOW data_checksums") == "on"
        assert await fetch(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


async def test_a_second_one_on_the_same_folder_refuses(data_dir: Path) -> None:
    """The text names the folder, the process that has it and the setting to change."""
    async with cluster(data_dir, FAST):
        with pytest.raises(CannotStartError, match=rf"{data_dir}.*process {os.getpid()}.*RIGMESH_DATA_DIR"):
            async with cluster(data_dir, FAST):
                pass


async def test_a_killed_server_is_started_again(data_dir: Path) -> None:
    """kill -9 of PostgreSQL: it comes back by itself with all that was committed."""
    async with cluster(data_dir, FAST) as url:
        await fetch(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        before = postmaster(data_dir)
        os.kill(before, signal.SIGKILL)
        assert await eventually(lambda: fetch(url, "SELECT answer FROM kept")) == 42
        assert postmaster(data_dir) != before


async def test_the_next_start_follows_a_kill_at_once(data_dir: Path) -> None:
    """kill -9 of the process that runs the cluster: the next one takes the folder over, whatever still runs there."""
    command = [sys.executable, "-c", HOLD, str(data_dir)]
    holder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    url = (await holder.stdout.readline()).decode().strip()
    await fetch(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    holder.kill()
    await holder.communicate()
    async with cluster(data_dir, FAST) as again:
        assert await fetch(again, "SELECT answer FROM kept") == 42


async def test_a_stale_pid_file_does_not_block(data_dir: Path) -> None:
    """After a power cut the process id in postmaster.pid may be anybody's, and PostgreSQL alone would refuse."""
    async with cluster(data_dir, FAST):
        pid_file = data_dir / "postgres/data/postmaster.pid"
        lines = pid_file.read_text().splitlines()
    account = server_account()
    user = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
    stranger = await asyncio.create_subprocess_exec("sleep", "60", cwd="/", **user)
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        async with cluster(data_dir, FAST) as url:
            assert await fetch(url, "SELECT 1") == 1
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_an_interrupted_first_start_is_begun_again(data_dir: Path) -> None:
    """What a crash inside initdb leaves is thrown away."""
    half_made = data_dir / "postgres" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("15\n")
    account = server_account()
    account.give(half_made)
    async with cluster(data_dir, FAST) as url:
        assert await fetch(url, "SELECT 1") == 1


async def test_a_long_path_gets_a_short_socket(data_dir: Path) -> None:
    """A socket's path ends at 107 bytes; the short folder is private, and used again by the next start."""
    deep = data_dir / ("d" * 120)
    sockets = set()
    for _ in range(2):
        async with cluster(deep, FAST) as url:
            assert await fetch(url, "SELECT 1") == 1
            folder = (deep / "postgres" / "socket").resolve()
            assert folder.stat().st_mode & 0o777 == 0o700
            sockets.add(folder)
    (short,) = sockets
    short.rmdir()


@as_root
async def test_a_folder_that_the_database_user_cannot_enter(closed_dir: Path) -> None:
    """The files then lie elsewhere behind a link, and a second start finds them."""
    assert not server_account().can_enter(closed_dir.parent)
    async with cluster(closed_dir, FAST) as url:
        await fetch(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with cluster(closed_dir, FAST) as url:
        assert await fetch(url, "SELECT answer FROM kept") == 42


@as_root
async def test_other_users_of_the_machine_cannot_connect(data_dir: Path) -> None:
    """Neither through the closed folder nor, when that is open, past the check of who asks."""
    async with cluster(data_dir, FAST) as url:
        psql = [str(bin_folder() / "psql"), url, "-c", "SELECT 1"]
        closed = await asyncio.to_thread(
            subprocess.run, psql, user="nobody", extra_groups=[], capture_output=True, text=True, cwd="/"
        )
        assert closed.returncode != 0
        assert "Permission denied" in closed.stderr
        for folder in (data_dir / "postgres", data_dir / "postgres/socket"):
            folder.chmod(0o755)
        (data_dir / "postgres/socket/.s.PGSQL.5432").chmod(0o777)
        opened = await asyncio.to_thread(
            subprocess.run, psql, user="nobody", extra_groups=[], capture_output=True, text=True, cwd="/"
        )
        assert opened.returncode != 0
        assert "Peer authentication failed" in opened.stderr


async def test_what_keeps_it_from_starting_is_shown(data_dir: Path) -> None:
    """A wrong setting: the text carries the end of the server's log."""
    with pytest.raises(CannotStartError, match=r'(?s)postgres.log:.*invalid value for parameter "shared_buffers"'):
        async with cluster(data_dir, {"shared_buffers": "much"}):
            pass


async def test_an_operator_reaches_the_cluster_running_or_not(data_dir: Path) -> None:
    """Commands use the server of `rigmesh up`; without it they run one meanwhile; without a database they say so."""
    with pytest.raises(CannotStartError, match="rigmesh up"):
        async with existing(data_dir):
            pass
    async with cluster(data_dir, FAST) as url, existing(data_dir) as same:
        assert same == url
    async with existing(data_dir) as started:
        assert await fetch(started, "SELECT 1") == 1
