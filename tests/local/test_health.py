import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from services.local.folder import CannotStartError
from services.local.health import FAILURES_MAX, wait_until_serving
from services.local.supervise import Child

Key = ec.EllipticCurvePrivateKey


def child(failures: int = 0) -> Child:
    async def launch() -> asyncio.subprocess.Process:
        raise AssertionError("not launched here")

    return Child("control", launch, lambda _: None, asyncio.Event(), failures=failures)


def certificate(name: str, names: list[x509.GeneralName], key: Key, issuer: str, issuer_key: Key) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@asynccontextmanager
async def server(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[tuple[str, HealthServicer]]:
    running, health = grpc.aio.server(), HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, running)
    if credentials:
        port = running.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        yield f"127.0.0.1:{port}", health
    finally:
        await running.stop(0)


async def test_waits_for_serving(tmp_path: Path) -> None:
    """A server that answers NOT_SERVING is not there yet."""
    async with server() as (address, health):
        await health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        waiting = asyncio.create_task(wait_until_serving(child(), address, None, tmp_path / "log"))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        await waiting


async def test_gives_up_with_the_end_of_the_log(tmp_path: Path) -> None:
    """A process that dies again and again will not come: what it said last is shown."""
    (tmp_path / "log").write_text("first\nKeyError: 'last words'\n")
    with pytest.raises(CannotStartError, match=r"(?s)control does not serve at 127\.0\.0\.1:1.*last words"):
        await wait_until_serving(child(FAILURES_MAX), "127.0.0.1:1", None, tmp_path / "log")


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("rig.example.org")],
        [x509.DNSName("*.example.org")],
        [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))],
    ],
    ids=["name", "wildcard", "address"],
)
@pytest.mark.parametrize("self_signed", [True, False])
async def test_tls_with_a_certificate_for_another_name(
    tmp_path: Path, names: list[x509.GeneralName], self_signed: bool
) -> None:
    """The certificate is the server's own, so it is trusted under any name and from any authority."""
    key, authority = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, issuer_key = ("server", key) if self_signed else ("authority", authority)
    pem = certificate("server", names, key, issuer, issuer_key)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "cert.pem").write_bytes(pem)
    async with server(grpc.ssl_server_credentials([(private, pem)])) as (address, health):
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        async with asyncio.timeout(5):
            await wait_until_serving(child(), address, tmp_path / "cert.pem", tmp_path / "log")
