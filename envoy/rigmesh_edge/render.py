"""Renders Envoy's configuration: one template, filled in from the settings and from the contract."""

import hashlib
import json
import re
import ssl
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from string import Template
from typing import Any

from rigmesh_edge.descriptors import descriptor_set, services
from rigmesh_edge.errors import mappers, rest_format
from rigmesh_edge.routes import routes, without
from services.settings import Settings

Json = dict[str, Any]

_HERE = Path(__file__).parent
_OPENAPI = _HERE.parents[1] / "proto" / "openapi.json"

_SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
_HSTS = {"strict-transport-security": "max-age=31536000"}


def render(settings: Settings, folder: Path) -> Path:
    """Writes all that Envoy reads into `folder`, readable by any user, and returns the path of its configuration.

    ValueError: an upstream that is not host:port. OSError: a file cannot be read.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # Envoy may run as another user than the one that renders
    openapi = _OPENAPI.read_bytes()
    _write(folder / "descriptors.binpb", descriptor_set())
    _write(folder / "openapi.json", openapi)
    _write(folder / "guard.lua", (_HERE / "guard.lua").read_bytes())
    config = folder / "envoy.yaml"
    _write(config, _fill("envoy.yaml", **_values(settings, folder, len(openapi))))
    return config


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o644)


def _fill(name: str, **values: str) -> bytes:
    return Template((_HERE / name).read_text(encoding="utf-8")).substitute(values).encode()


def _values(settings: Settings, folder: Path, openapi_bytes: int) -> dict[str, str]:
    """What the template asks for, as JSON, which is YAML too."""
    headers = _SECURITY_HEADERS | (_HSTS if _tls_files(settings) else {})
    values = {
        "listener_tls": _listener_tls(settings),
        "upstream_tls": _upstream_tls(settings),
        "control_upstreams": _endpoints(settings, "control", settings.control_upstreams),
        "telemetry_upstreams": _endpoints(settings, "telemetry", settings.telemetry_upstreams),
        "guard_origins": dict.fromkeys(settings.cors_origins, True),
        "cors_origins": [{"exact": origin} for origin in settings.cors_origins],
        "services": [service.full_name for service in services()],
        "error_mappers": mappers(),
        "error_format": rest_format(),
        "security_headers": _mutations(headers),
        "bind": settings.bind,
        "http_port": settings.http_port,
        "admin_port": settings.envoy_admin_port,
        "descriptors_file": str(folder / "descriptors.binpb"),
        "guard_file": str(folder / "guard.lua"),
        "openapi_bytes": openapi_bytes,
        "routes": [_openapi_route(folder / "openapi.json"), *routes()],
    }
    return {key: json.dumps(value) for key, value in values.items()}


def _openapi_route(file: Path) -> Json:
    return {
        "match": {"path": "/api/openapi.json", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
        "direct_response": {"status": 200, "body": {"filename": str(file)}},
        "typed_per_filter_config": without("envoy.filters.http.grpc_json_transcoder"),
    }


def _mutations(headers: dict[str, str]) -> list[Json]:
    return [
        {"append": {"header": {"key": key, "value": value}, "append_action": "ADD_IF_ABSENT"}}
        for key, value in headers.items()
    ]


def _endpoints(settings: Settings, role: str, upstreams: tuple[str, ...]) -> list[Json]:
    default = (_reachable(settings.bind), settings.role_grpc_port(role))
    pairs = [_host_port(upstream) for upstream in upstreams] or [default]
    return [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in pairs
    ]


def _host_port(upstream: str) -> tuple[str, int]:
    parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", upstream)
    if parts is None or not 1 <= int(parts[3]) <= 65535:
        raise ValueError(f"upstream {upstream!r} is not host:port")
    return parts[1] or parts[2], int(parts[3])


def _reachable(bind: str) -> str:
    """A server that listens on all addresses is asked on the loopback one."""
    address = ip_address(bind)
    if not address.is_unspecified:
        return bind
    return "127.0.0.1" if isinstance(address, IPv4Address) else "::1"


def _tls_files(settings: Settings) -> tuple[Path, Path] | None:
    if settings.tls_cert and settings.tls_key:
        return settings.tls_cert.resolve(), settings.tls_key.resolve()
    return None


def _listener_tls(settings: Settings) -> Json | None:
    files = _tls_files(settings)
    if files is None:
        return None
    chain, key = ({"filename": str(file)} for file in files)
    return _transport_socket(
        "DownstreamTlsContext",
        {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{"certificate_chain": chain, "private_key": key}],
        },
    )


def _upstream_tls(settings: Settings) -> Json | None:
    """Direct gRPC shows the same certificate, so exactly that one is accepted, whatever name it was issued for."""
    files = _tls_files(settings)
    if files is None:
        return None
    fingerprint = hashlib.sha256(_leaf(files[0].read_text(encoding="ascii"))).hexdigest()
    return _transport_socket(
        "UpstreamTlsContext",
        {"alpn_protocols": ["h2"], "validation_context": {"verify_certificate_hash": [fingerprint]}},
    )


def _leaf(pem_chain: str) -> bytes:
    end = "-----END CERTIFICATE-----"
    first, found, _ = pem_chain.partition(end)
    start = first.find("-----BEGIN CERTIFICATE-----")
    if not found or start < 0:
        raise ValueError("the TLS certificate file holds no PEM certificate")
    return ssl.PEM_cert_to_DER_cert(first[start:] + end)


def _transport_socket(kind: str, common: Json) -> Json:
    context = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": context, "common_tls_context": common},
    }
