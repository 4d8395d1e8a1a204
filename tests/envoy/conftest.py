"""Ways to speak to the edge. `edge` is the host:port of one with real control and telemetry processes behind it."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from edge_calls import DEADLINE_S, Call, call_to

from rigmesh_edge.binary import command
from rigmesh_edge.render import render
from services.settings import Settings


@pytest.fixture
def call(edge: str) -> Call:
    return call_to(edge)


@pytest.fixture
def raw_status(edge: str) -> Callable[[bytes], int]:
    """Sends bytes as they are and gives the status of the first answer; 0 = the edge closed without one."""
    host, _, port = edge.rpartition(":")

    def send(request: bytes) -> int:
        with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
            connection.sendall(request)
            line = connection.makefile("rb").readline()
        return int(line.split()[1]) if line else 0

    return send


@pytest.fixture(scope="module")
def start_envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Settings]]:
    """A function (**settings) -> Settings that starts an Envoy of its own, on free ports, until the module's end."""
    with ExitStack() as stack:

        def start(**values: Any) -> Settings:
            return stack.enter_context(_running(tmp_path_factory.mktemp("envoy"), values))

        yield start


@contextmanager
def _running(folder: Path, values: dict[str, Any]) -> Iterator[Settings]:
    http_port, envoy_admin_port, closed = _free_ports(3)
    nobody = f"127.0.0.1:{closed}"
    defaults = {"control_upstreams": nobody, "telemetry_upstreams": nobody}
    ports = {"http_port": http_port, "admin_port": envoy_admin_port - 4}
    settings = Settings(_env_file=None, **(defaults | ports | values))
    arguments = command(render(settings, folder), "--log-level", "error")
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        _wait_until_ready(settings, process)
        yield settings
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_S)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _wait_until_ready(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    ask = call_to(f"127.0.0.1:{settings.envoy_admin_port}")
    deadline = monotonic() + DEADLINE_S
    while monotonic() < deadline:
        assert process.poll() is None, "Envoy ended"
        try:
            if ask("GET", "/ready").status == 200:
                return
        except ConnectionRefusedError:
            continue
    raise TimeoutError("Envoy is not ready")
