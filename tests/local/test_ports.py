import socket

import pytest

from services.local.folder import CannotStartError
from services.local.ports import address, require_free
from services.settings import Settings
from tests.ports import free_ports

FIRST = free_ports(8)
PORTS = {"http_port": FIRST, "grpc_port": FIRST + 1, "admin_port": FIRST + 3}


async def test_free_ports_pass() -> None:
    """Nothing is left listening."""
    await require_free(Settings(**PORTS))
    await require_free(Settings(**PORTS))


async def test_a_taken_port_is_named_with_its_setting() -> None:
    """The user learns which port, who wants it and what to change."""
    text = rf"port {FIRST + 2} .* taken \(gRPC of telemetry\).*RIGMESH_GRPC_PORT"
    with socket.create_server(("127.0.0.1", FIRST + 2)), pytest.raises(CannotStartError, match=text):
        await require_free(Settings(**PORTS))


async def test_two_settings_with_one_port_are_refused() -> None:
    """Otherwise the second server would fail long after the first is up."""
    with pytest.raises(
        CannotStartError, match=rf"Envoy and gRPC of control .* port {FIRST + 1}: change RIGMESH_GRPC_PORT"
    ):
        await require_free(Settings(**PORTS | {"http_port": FIRST + 1}))


async def test_an_address_of_another_machine_is_refused() -> None:
    """RIGMESH_BIND must be an address of this one."""
    with pytest.raises(CannotStartError, match=r"no address 192\.0\.2\.1: RIGMESH_BIND"):
        await require_free(Settings(**PORTS, bind="192.0.2.1"))


@pytest.mark.parametrize(
    ("bind", "expected"),
    [("127.0.0.1", "127.0.0.1:1"), ("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1"), ("10.0.0.1", "10.0.0.1:1")],
)
def test_address_is_reachable(bind: str, expected: str) -> None:
    """A server on all addresses is asked on the loopback one."""
    assert address(bind, 1) == expected
