"""The OpenAPI document: as generated now, and complete."""

import json
import re
from pathlib import Path

import pytest

from rigmesh_edge.descriptors import http_rules, services
from rigmesh_edge.image import build
from rigmesh_edge.openapi import document

PROTO = Path(__file__).parents[2] / "proto"


@pytest.fixture(scope="module")
def committed() -> dict:
    return json.loads((PROTO / "openapi.json").read_text(encoding="utf-8"))


def test_document_is_up_to_date(committed):
    assert committed == document(build(PROTO))


def test_every_rest_form_of_every_rpc_is_in_it(committed):
    for service in services():
        for method in service.methods:
            for verb, path, _ in http_rules(method):
                operation = committed["paths"][path][verb]
                assert operation["operationId"].startswith(f"{service.name}_{method.name}")
                assert operation["description"]


def test_operation_ids_are_unique(committed):
    ids = [operation["operationId"] for path in committed["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere(committed):
    for kind, name in re.findall(r'"#/components/([a-z]+)/([^"]+)"', json.dumps(committed).lower()):
        assert name in {key.lower() for key in committed["components"][kind]}


def test_limits_of_the_contract_are_told(committed):
    schemas = committed["components"]["schemas"]
    sensor = schemas["Sensor"]
    assert sensor["properties"]["name"] | {"description": ""} == {
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
        "pattern": r"^[^\p{Cc}\p{Cf}]*$",
        "description": "",
    }
    assert sensor["properties"]["labels"]["maxProperties"] == 64
    assert sensor["properties"]["token"]["readOnly"] is True
    assert {"name", "project_ids"} <= set(sensor["required"])
    assert schemas["User"]["properties"]["password"]["writeOnly"] is True
    assert "RUNNING" in schemas["Run.Status"]["enum"]


def test_streams_are_told_as_server_sent_events(committed):
    answer = committed["paths"]["/api/v1/telemetry/stream"]["get"]["responses"]["200"]
    assert list(answer["content"]) == ["text/event-stream"]


def test_calls_tell_which_of_the_headers_they_take(committed):
    login = committed["paths"]["/api/v1/auth/login"]["post"]
    assert login["security"] == []
    assert login["parameters"] == []
    for path, expected in {
        "/api/v1/auth/logout": ["X-CSRF-Token"],
        "/api/v1/telemetry": ["X-CSRF-Token"],
        "/api/v1/projects": ["Idempotency-Key", "X-CSRF-Token"],
    }.items():
        parameters = committed["paths"][path]["post"]["parameters"]
        assert [parameter["name"] for parameter in parameters if parameter["in"] == "header"] == expected
