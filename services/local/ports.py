"""The ports that `rigmesh up` listens on, looked at before anything is started."""

import asyncio
import errno
import socket
from ipaddress import ip_address

from services.local.folder import CannotStartError
from services.settings import ROLES, Settings

# What an `up` killed a moment ago leaves behind is gone within this time.
PATIENCE_S = 1.0
POLL_S = 0.05


def address(bind: str, port: int) -> str:
    """host:port to reach a server that listens on `bind`; on all addresses means on the loopback one, too."""
    host = ip_address(bind)
    if host.is_unspecified:
        host = ip_address("127.0.0.1" if host.version == 4 else "::1")
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


def ports(settings: Settings) -> list[tuple[int, str, str]]:
    """All ports with who listens there and the setting that moves it."""
    listed = [(settings.http_port, "Envoy", "RIGMESH_HTTP_PORT")]
    for role in ROLES:
        listed.append((settings.role_grpc_port(role), f"gRPC of {role}", "RIGMESH_GRPC_PORT"))
        listed.append((settings.role_admin_port(role), f"metrics of {role}", "RIGMESH_ADMIN_PORT"))
    return [*listed, (settings.envoy_admin_port, "metrics of Envoy", "RIGMESH_ADMIN_PORT")]


async def require_free(settings: Settings) -> None:
    """Raises CannotStartError, naming port and setting, when one is taken or two are the same."""
    owners: dict[int, str] = {}
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    for port, owner, setting in ports(settings):
        if port in owners:
            raise CannotStartError(f"{owners[port]} and {owner} would both listen on port {port}: change {setting}")
        owners[port] = owner
        while refusal := _refusal(settings.bind, port):
            if refusal.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > deadline:
                raise CannotStartError(_explain(refusal, settings.bind, port, owner, setting))
            await asyncio.sleep(POLL_S)


def _refusal(bind: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((bind, port))
            probe.listen()
        except (OSError, OverflowError) as error:
            return error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))
    return None


def _explain(refusal: OSError, bind: str, port: int, owner: str, setting: str) -> str:
    if refusal.errno == errno.EADDRINUSE:
        return f"port {port} on {bind} is taken ({owner}): end the program that listens there, or set {setting}"
    if refusal.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {bind}: RIGMESH_BIND names the one to listen on"
    return f"cannot listen on port {port} of {bind} ({owner}): {refusal.strerror}; {setting} names another port"
