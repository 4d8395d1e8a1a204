"""A background task that ends by itself stops the process, with an error; none ends unseen."""

import asyncio
import os
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from services.background import Background
from tests.conftest import Rig
from tests.ports import free_ports

# uvicorn ends by itself when `should_exit` is set: what any task may do in some way that nobody has foreseen.
SERVE = """
import asyncio
from services.app import serve
from services.settings import Settings
async def run():
    serving = asyncio.create_task(serve("control", Settings()))
    while not (found := [task for task in asyncio.all_tasks() if task.get_name() == "the admin port"]):
        await asyncio.sleep(0.01)
    found[0].get_coro().cr_frame.f_locals["server"].should_exit = True
    await serving
asyncio.run(run())
"""


async def returned() -> None:
    return


async def raised() -> None:
    raise ZeroDivisionError


async def panicked() -> None:
    class PanicError(BaseException):
        pass

    raise PanicError


async def cancelled() -> None:
    raise asyncio.CancelledError


async def endless() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("work", [returned, raised, panicked, cancelled])
async def test_a_task_that_ends_by_itself_stops_the_process(work) -> None:
    stopping = asyncio.Event()
    background = Background(stopping)
    with capture_logs() as logged:
        background.start(endless(), "endless").cancel()
        task = background.start(work(), "short")
        async with asyncio.timeout(5):
            await stopping.wait()
    assert background.failure == "short"
    error = None if task.cancelled() else task.exception()
    assert [(entry["log_level"], entry["task"], entry["exc_info"]) for entry in logged] == [
        ("critical", "short", error)
    ]


async def test_a_task_that_its_owner_ends_is_in_order() -> None:
    stopping = asyncio.Event()
    background = Background(stopping)
    async with background.running(endless(), "endless"):
        pass
    assert (background.failure, stopping.is_set()) == ("", False)


async def test_a_role_ends_with_an_error(rig: Rig) -> None:
    """So that whoever watches over it starts it again."""
    ports = free_ports(2)
    environment = os.environ | {
        "RIGMESH_DATABASE_URL": rig.database_url,
        "RIGMESH_DATA_DIR": str(rig.data_dir),
        "RIGMESH_GRPC_PORT": str(ports),
        "RIGMESH_ADMIN_PORT": str(ports + 1),
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SERVE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "a background task ended" in ended.stdout + ended.stderr
    assert "ServeError: the admin port ended by itself" in ended.stderr
