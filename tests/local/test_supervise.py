import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.local.process import LOG_BYTES_MAX, bound, start
from services.local.supervise import Child, supervised

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from services.local.process import start
async def parent():
    child = await start(["/bin/sleep", "60"], Path(sys.argv[1]), when_orphaned=signal.SIGKILL, environment=os.environ)
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(parent())
"""


def launcher(command: list[str], log: Path) -> Callable[[], Awaitable[asyncio.subprocess.Process]]:
    return lambda: start(command, log, when_orphaned=signal.SIGKILL, environment=os.environ)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 other processes set no event
            await asyncio.sleep(0.01)


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """Each end is reported with its cause; another process takes the place."""
    reports: list[str] = []
    child = Child("sleeper", launcher(["/bin/sleep", "60"], tmp_path / "log"), reports.append, asyncio.Event())
    async with supervised(child):
        await until(lambda: child.process)
        assert child.process
        first = child.process.pid
        child.process.kill()
        await until(lambda: child.process and child.process.pid != first)
    assert len(reports) == 1
    assert reports[0].startswith("sleeper was ended by SIGKILL; it starts again in ")
    assert child.process.returncode == -signal.SIGTERM


async def test_a_child_that_cannot_start_is_told_and_tried_again(tmp_path: Path) -> None:
    """It is never given up, and never silent."""
    reports: list[str] = []
    child = Child("nothing", launcher(["/no/such/program"], tmp_path / "log"), reports.append, asyncio.Event())
    async with supervised(child):
        await until(lambda: child.failures >= 2)
    assert "nothing ended with exit code 1" in reports[0]
    assert "/no/such/program" in (tmp_path / "log").read_text()


async def test_hurry_ends_what_does_not_listen(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is waited for until `hurried` is set."""
    log, hurried = tmp_path / "log", asyncio.Event()
    child = Child("deaf", launcher([sys.executable, "-c", STUBBORN], log), lambda _: None, hurried)
    running = asyncio.create_task(child.run())
    await until(lambda: log.exists() and "deaf" in log.read_text())
    stopping = asyncio.create_task(child.stop())
    done, _ = await asyncio.wait({stopping}, timeout=0.2)
    assert not done
    hurried.set()
    await asyncio.gather(stopping, running)
    assert child.process
    assert child.process.returncode == -signal.SIGKILL


async def test_a_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """kill -9 of the parent leaves nothing behind."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.communicate()
    status = Path(f"/proc/{pid}/status")
    await until(lambda: not status.exists() or "State:\tZ" in status.read_text())


async def test_a_log_stays_bounded_while_it_is_written(tmp_path: Path) -> None:
    """The child goes on appending to the file that was cut."""
    log = tmp_path / "log"
    log.write_bytes(b"old\n" * (LOG_BYTES_MAX // 4 + 1))
    with log.open("ab", buffering=0) as child:
        bound(log)
        child.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "log.1").stat().st_size > LOG_BYTES_MAX
