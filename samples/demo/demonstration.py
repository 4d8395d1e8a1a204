"""The demo from its start to its end."""

import asyncio
import json
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from rigmesh.v1.auth_service_pb2 import LoginRequest
from rigmesh_client import Connection, SensorStream, connect
from samples.demo.readback import differences, read
from samples.demo.recordings import CHANNELS, PERIOD_NS, Recording, load
from samples.demo.report import Row, print_commands, print_table
from samples.demo.server import running
from samples.demo.study import Study, create_study, create_tokens, finish_study
from services.local.ports import address
from services.settings import Settings

ROWS_A_SEND = 200


class DemoError(Exception):
    """Something did not go as it should; the text says what."""


async def demonstrate(settings: Settings, *, once: bool) -> None:
    """Starts Rigmesh, streams, compares, reports. Raises DemoError and what its steps raise."""
    if settings.tls_cert:
        raise DemoError("the demo speaks plaintext: unset RIGMESH_TLS_CERT and RIGMESH_TLS_KEY for it")
    console = Console(highlight=False)
    host = address(settings.bind, settings.http_port)
    endpoint = f"http://{host}"
    console.print("demo: starting Rigmesh")
    async with running(settings) as process:
        tokens = await create_tokens(endpoint, _admin(settings))
        recordings = load(time.time_ns())
        async with connect(endpoint, tokens.write) as connection:
            study = await create_study(connection, recordings)
            rows = await _stream_all(console, endpoint, tokens.read, study, recordings)
            await finish_study(connection, study)
        print_table(console, rows)
        if once:
            console.print("\nTo try while it runs: ./scripts/demo without --once, which prints these anew.")
        print_commands(console, host, tokens.read, study)
        if process is None:
            console.print(f"\nRigmesh was running before, at {endpoint}, and goes on.")
        elif not once:
            console.print(f"\nRigmesh stays up at {endpoint} until Ctrl-C.")
            console.print(f"The password of `admin` is in {_credentials_file(settings)}.")
            await _stay(process)
            console.print("demo: stopping Rigmesh")


async def _stream_all(
    console: Console, endpoint: str, token: str, study: Study, recordings: list[Recording]
) -> list[Row]:
    rows = []
    total = sum(recording.rows for recording in recordings)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("streaming and comparing", total=total)
        async with connect(endpoint, study.sensor.token) as connection:
            for recording in recordings:
                began_s = time.perf_counter()
                sent_bytes = await _stream(connection, study.session_ids[recording.name], recording)
                seconds = time.perf_counter() - began_s
                ax = await _compare(endpoint, token, study.session_ids[recording.name], recording)
                rows.append(Row(recording, sent_bytes, seconds, ax))
                progress.advance(task, recording.rows)
    return rows


async def _stream(connection: Connection, capture_session_id: str, recording: Recording) -> int:
    """Sends a recording as a device would, but at full speed; returns the bytes that took. It is committed then."""
    async with SensorStream(connection, "watch", CHANNELS, capture_session_id=capture_session_id) as stream:
        for first in range(0, recording.rows, ROWS_A_SEND):
            part = {signal: column[first : first + ROWS_A_SEND] for signal, column in recording.values.items()}
            await stream.send(part, start_ns=recording.start_ns + first * PERIOD_NS, period_ns=PERIOD_NS)
    if stream.reject_count:
        raise DemoError(f"{recording.name}: {stream.reject_count} rejects, the last one: {stream.rejects[-1].message}")
    return stream.sent_bytes


async def _compare(endpoint: str, token: str, capture_session_id: str, recording: Recording) -> NDArray[np.float64]:
    """Reads a recording back; returns ax in m/s2. DemoError: something differs."""
    raw = await asyncio.to_thread(read, endpoint, token, capture_session_id, "RAW")
    physical = await asyncio.to_thread(read, endpoint, token, capture_session_id, "PHYSICAL")
    if found := differences(recording, raw, physical):
        raise DemoError("\n".join(found))
    return physical["ax"][1]


def _credentials_file(settings: Settings) -> Path:
    return settings.data_dir / "admin-credentials.json"


def _admin(settings: Settings) -> LoginRequest:
    file = _credentials_file(settings)
    if not file.exists():
        raise DemoError(f"there is no {file}: the demo signs in with the password that the first run leaves there")
    return LoginRequest(**json.loads(file.read_text()))


async def _stay(process: Process) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    ended, asked = asyncio.create_task(process.wait()), asyncio.create_task(stopped.wait())
    await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if ended.done():
        raise DemoError("Rigmesh has ended")
    ended.cancel()
