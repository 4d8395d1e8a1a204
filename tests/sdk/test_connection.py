import json

import pytest

from rigmesh_client.connection import _parse_endpoint
from rigmesh_client.retries import keyed_paths, service_config


@pytest.mark.parametrize(
    ("endpoint", "target", "tls"),
    [
        ("https://lab.example:8443", "lab.example:8443", True),
        ("https://lab.example", "lab.example:443", True),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080", False),
        ("localhost:50052", "localhost:50052", False),
        ("http://[::1]:8080", "[::1]:8080", False),
    ],
)
def test_endpoints(endpoint: str, target: str, *, tls: bool) -> None:
    assert _parse_endpoint(endpoint) == (target, tls)


@pytest.mark.parametrize("endpoint", ["", "ftp://host", "http://host/path", "http://me@host", "http://:80"])
def test_other_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="an endpoint is"):
        _parse_endpoint(endpoint)


def test_only_what_has_one_effect_is_repeated() -> None:
    (config,) = json.loads(service_config())["methodConfig"]
    repeated = {f"/{name['service']}/{name['method']}" for name in config["name"]}
    keyed = keyed_paths()
    assert "/rigmesh.v1.RunService/CreateRun" in repeated & keyed
    assert "/rigmesh.v1.RunService/GetRun" in repeated - keyed
    assert "/rigmesh.v1.TelemetryIngestService/AppendTelemetry" in repeated - keyed
    assert not any(path.endswith(("/Login", "/TelemetryIngest", "/QueryTelemetry")) for path in repeated | keyed)
    assert keyed < repeated
