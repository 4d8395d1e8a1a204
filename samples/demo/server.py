"""A Rigmesh to talk to: the one that is running on the data folder, or one that is started for the demo."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.local import tied
from services.local.folder import CannotStartError, locked, make_folder
from services.settings import Settings

READY = "rigmesh: ready"
ERROR = "error: "
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0


class ServerError(Exception):
    """Rigmesh did not start, or ended; the text is its own."""


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Process | None]:
    """Yields the process once it is ready and stops it afterwards; None = it was running already, and goes on."""
    if _is_running(settings):
        yield None
        return
    # it ends with us whatever ends us, and hears of Ctrl-C from us only, so that it stops in order
    launcher = [sys.executable, "-I", "-S", tied.__file__, str(os.getpid()), str(int(signal.SIGTERM))]
    process = await asyncio.create_subprocess_exec(
        *launcher,
        str(os.geteuid()),
        str(os.getegid()),
        *(sys.executable, "-m", "services", "up"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    draining: asyncio.Task[str] | None = None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await _read_until_ready(process)
        draining = asyncio.create_task(_read_to_end(process))
        yield process
    except TimeoutError:
        raise ServerError(f"Rigmesh was not ready within {START_TIMEOUT_S:.0f} s") from None
    finally:
        await _stop(process)
        if draining:
            await draining


def _is_running(settings: Settings) -> bool:
    try:
        with locked(make_folder(settings.data_dir)):
            return False
    except CannotStartError:
        return True


async def _read_until_ready(process: Process) -> None:
    assert process.stdout is not None
    said: list[str] = []
    async for line in process.stdout:
        text = line.decode(errors="replace").rstrip()
        if text.startswith(READY):
            return
        if text.startswith(ERROR):
            said.clear()  # what it gave up with, not what it tried before
        said.append(text.removeprefix(ERROR))
    raise ServerError("\n".join(said) or f"Rigmesh ended with exit code {await process.wait()}")


async def _read_to_end(process: Process) -> str:
    # a full pipe would stop the server
    assert process.stdout is not None
    return (await process.stdout.read()).decode(errors="replace")


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
