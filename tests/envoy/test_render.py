"""The rendered configuration, judged by the real Envoy."""

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from rigmesh_edge.binary import command
from rigmesh_edge.descriptors import descriptor_set, is_stream, role, services
from rigmesh_edge.render import render
from rigmesh_edge.routes import routes
from services.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> dict[str, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rig.example")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC)).not_valid_after(datetime.now(UTC) + timedelta(days=1))
    folder = tmp_path_factory.mktemp("tls")
    files = {"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}
    files["tls_cert"].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files["tls_key"].write_bytes(key.private_bytes(*plain))
    return files


def assert_valid(config: Path) -> None:
    checked = subprocess.run(command(config, "--mode", "validate"), capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"bind": "::1"},
        {"bind": "0.0.0.0"},
        {"control_upstreams": "10.0.0.1:50051,control.example:50051", "telemetry_upstreams": "[::1]:50052"},
        {"cors_origins": 'https://portal.example,https://odd"$name.example'},
    ],
)
def test_envoy_accepts_what_is_rendered(tmp_path, values):
    assert_valid(render(settings(**values), tmp_path))


def test_folder_may_have_an_odd_name(tmp_path):
    assert_valid(render(settings(), tmp_path / 'a "$b" c'))


def test_envoy_accepts_what_is_rendered_with_tls(tmp_path, certificate):
    config = render(settings(**certificate), tmp_path)
    assert_valid(config)
    assert "strict-transport-security" in config.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "upstream", ["control", "control:", ":50051", "control:0", "user@control:50051", "a:1/b", "a:65536"]
)
def test_upstream_without_host_or_port_is_refused(tmp_path, upstream):
    with pytest.raises(ValueError, match="is not host:port"):
        render(settings(control_upstreams=upstream), tmp_path)


def test_files_can_be_read_by_another_user(tmp_path):
    render(settings(), tmp_path)
    assert all(file.stat().st_mode & stat.S_IROTH for file in tmp_path.iterdir())


def test_descriptor_set_holds_what_json_errors_need():
    files = [file.name for file in FileDescriptorSet.FromString(descriptor_set()).file]
    assert {"google/rpc/status.proto", "google/rpc/error_details.proto", "google/api/httpbody.proto"} <= set(files)


def test_descriptor_set_is_in_order_of_imports():
    seen: set[str] = set()
    for file in FileDescriptorSet.FromString(descriptor_set()).file:
        assert set(file.dependency) <= seen
        seen.add(file.name)


def test_every_service_has_a_route_and_streams_come_first_without_limits():
    rendered = routes()
    prefixes = [route["match"].get("prefix") for route in rendered]
    for service in services():
        at = prefixes.index(f"/{service.full_name}/")
        assert rendered[at]["route"]["cluster"] == role(service.full_name)
        for method in filter(is_stream, service.methods):
            [stream] = [
                n for n, one in enumerate(rendered) if one["match"].get("path") == f"/{service.full_name}/{method.name}"
            ]
            assert stream < at
            assert rendered[stream]["route"]["cluster"] == role(service.full_name)
            assert {"timeout": "0s", "idle_timeout": "0s"}.items() <= rendered[stream]["route"].items()
