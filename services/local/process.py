"""Child processes: tied to this one's life, in sessions of their own, their output in a log file of bounded size."""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.local import tied
from services.local.account import Account

LOG_BYTES_MAX = 16 << 20


async def start(
    command: Sequence[str],
    log: Path,
    *,
    when_orphaned: signal.Signals,
    environment: Mapping[str, str],
    account: Account | None = None,
) -> Process:
    """Starts the command, which gets `when_orphaned` when this process ends without stopping it.

    `account` is another user to run it as, which takes root. A terminal's Ctrl-C does not reach it: we stop in order.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    bound(log)
    user = [str(account.uid), str(account.gid)] if account else [str(os.geteuid()), str(os.getegid())]
    launcher = [sys.executable, "-I", "-S", tied.__file__, str(os.getpid()), str(int(when_orphaned)), *user]
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *launcher,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/" if account else None,  # another user may be unable to enter ours
            env=environment,
        )


async def end(process: Process, how: signal.Signals, hurried: asyncio.Event, at_last: signal.Signals) -> None:
    """Sends `how` and waits for the end; once `hurried` is set, sends `at_last`, which must be one that works."""
    _send(process, how)
    ended = asyncio.create_task(process.wait())
    in_hurry = asyncio.create_task(hurried.wait())
    await asyncio.wait({ended, in_hurry}, return_when=asyncio.FIRST_COMPLETED)
    in_hurry.cancel()
    if not ended.done():
        _send(process, at_last)
    await ended


def bound(log: Path) -> None:
    """Moves a log that has grown over LOG_BYTES_MAX to `<name>.1`.

    It is copied and cut, not renamed: the child holds it open, and appends wherever the end then is.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, to be shown with an error."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-count:])


def _send(process: Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)
