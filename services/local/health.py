"""Waits until a process answers the standard gRPC health check."""

import asyncio
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.folder import CannotStartError
from services.local.process import last_lines
from services.local.supervise import Child

START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 1.0
POLL_S = 0.05
FAILURES_MAX = 3


async def wait_until_serving(child: Child, address: str, tls_cert: Path | None, log: Path) -> None:
    """Returns once the server at `address` says SERVING. `tls_cert` is its own certificate chain, or None.

    Raises CannotStartError with the end of its log when it dies three times or is not there within a minute.
    """
    async with _channel(address, tls_cert) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while child.failures < FAILURES_MAX:
                    if await _serves(stub):
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pass
    raise CannotStartError(
        f"{child.name} does not serve at {address}: it {child.outcome}; the end of {log}:\n{last_lines(log)}"
    )


async def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _channel(address: str, tls_cert: Path | None) -> grpc.aio.Channel:
    # gRPC's own growing pauses between attempts are meant for networks.
    options: list[tuple[str, int | str]] = [
        ("grpc.enable_http_proxy", 0),  # an http_proxy in the environment is not for this machine's own servers
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    if tls_cert is None:
        return grpc.aio.insecure_channel(address, options=options)
    # Exactly this certificate is trusted, whatever name it was issued for.
    pem = tls_cert.read_bytes()
    options.append(("grpc.ssl_target_name_override", _name(pem)))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(pem), options=options)


def _name(pem: bytes) -> str:
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    # A wildcard stands for any one label.
    found = [
        str(name.value).replace("*", "rigmesh") for name in names if isinstance(name, x509.DNSName | x509.IPAddress)
    ]
    return found[0]
