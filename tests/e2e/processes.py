"""The child processes of the `rigmesh up` that the tests run on."""

import asyncio
from pathlib import Path
from typing import Any

from tests.e2e.rest import Rest

BACK_S = 30.0


def pid_of(up_pid: int, *arguments: str) -> int:
    """The child whose command line has these arguments, one after the other."""
    wanted = "\0".join(["", *arguments, ""])
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except (OSError, ValueError):
            continue
        if parent == up_pid and wanted in f"\0{command}":
            return int(folder.name)
    raise AssertionError(f"no child with {arguments}")


async def until_back(rig: Any) -> None:
    """Waits until the edge, both roles and the tests' own channels to them work."""
    nobody = Rest(rig.envoy)
    async with asyncio.timeout(BACK_S):
        for path in ("/auth/me", "/telemetry/latest"):
            while not await _answers(nobody, path):  # noqa: ASYNC110 what is awaited is another process
                await asyncio.sleep(0.05)
        await rig.channel.channel_ready()
        await rig.telemetry_channel.channel_ready()


async def _answers(nobody: Rest, path: str) -> bool:
    try:
        return (await nobody.ask("GET", path)).status == 401
    except OSError:
        return False
