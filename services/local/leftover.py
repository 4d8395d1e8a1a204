"""A database server that an earlier Rigmesh left behind: stopped before ours starts on the same files.

Normally there is none: the server stops by itself when `rigmesh up` is killed, but perhaps not before the next starts.
"""

import asyncio
import os
import signal
from pathlib import Path

from services.local.folder import CannotStartError

# Fast shutdown, then immediate, then by force: each is safe, for what was committed is in the log on disk.
STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
POLL_S = 0.02


async def stop_leftover(data: Path) -> None:
    """Returns when no server runs on `data`, and takes its stale postmaster.pid away.

    PostgreSQL refuses to start when the process id in that file belongs to anybody of the same user, which after a
    crash or a reboot can be any process. Here it is certain that none serves these files: not even an orphaned backend.
    """
    for number, patience_s in STEPS:
        for pid in servers(data):
            os.kill(pid, number)
        try:
            async with asyncio.timeout(patience_s):
                while servers(data):  # noqa: ASYNC110 they are not our children
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            continue
        (data / "postmaster.pid").unlink(missing_ok=True)
        return
    raise CannotStartError(f"processes {servers(data)} run PostgreSQL on {data} and cannot be ended")


def servers(data: Path) -> list[int]:
    """Every PostgreSQL process of `data`: all have it as working directory."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _serves(entry, data)]


def _serves(entry: Path, data: Path) -> bool:
    try:
        return (entry / "comm").read_text() == "postgres\n" and (entry / "cwd").readlink() == data
    except OSError:  # gone meanwhile, or another user's
        return False
