"""The contract as it is now: every RPC, path, id and reason is what was agreed, and is really there."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import rigmesh.v1
from buf.validate import validate_pb2
from rigmesh.v1.error_reason_pb2 import ErrorReason
from rigmesh.v1.options_pb2 import Access
from rigmesh_edge.descriptors import http_rules, role, services
from services.app import ALL_SERVICES, CONTROL_SERVICES, INGEST, READS
from services.rpc.contract import Rpc, rpcs

ROOT = Path(__file__).parents[1]
API = "/api/v1"
RUN, SENSOR = "/runs/{run_id}", "/sensors/{sensor_id}"
SESSIONS, PROFILES = f"{RUN}/capture-sessions", f"{SENSOR}/conversion-profiles"

# What the body is: "*" the whole request, a field of it, or nothing.
REST = {
    "AuthService.Login": ["POST /auth/login *"],
    "AuthService.Logout": ["POST /auth/logout *"],
    "AuthService.GetMe": ["GET /auth/me"],
    "AuthService.CreateApiToken": ["POST /api-tokens api_token"],
    "AuthService.ListApiTokens": ["GET /api-tokens"],
    "AuthService.RevokeApiToken": ["DELETE /api-tokens/{api_token_id}"],
    "UserService.CreateUser": ["POST /users user"],
    "ProjectService.CreateProject": ["POST /projects project"],
    "ProjectService.GetProject": ["GET /projects/{project_id}"],
    "ProjectService.ListProjects": ["GET /projects"],
    "ProjectService.ListMembers": ["GET /projects/{project_id}/members"],
    "ProjectService.AddMember": ["POST /projects/{project_id}/members *"],
    "ProjectService.UpdateMember": ["PATCH /projects/{project_id}/members/{user_id} member"],
    "ProjectService.RemoveMember": ["DELETE /projects/{project_id}/members/{user_id}"],
    "ExperimentService.CreateExperiment": ["POST /experiments experiment"],
    "ExperimentService.GetExperiment": ["GET /experiments/{experiment_id}"],
    "ExperimentService.ListExperiments": ["GET /experiments"],
    "RunService.CreateRun": ["POST /experiments/{experiment_id}/runs run"],
    "RunService.GetRun": [f"GET {RUN}"],
    "RunService.ListRuns": ["GET /runs", "GET /experiments/{experiment_id}/runs"],
    "RunService.UpdateRun": [f"PATCH {RUN} run"],
    "RunService.AttachSensor": [f"POST {RUN}/sensors *"],
    "CaptureService.CreateCaptureSession": [f"POST {SESSIONS} capture_session"],
    "CaptureService.GetCaptureSession": [f"GET {SESSIONS}/{{capture_session_id}}"],
    "CaptureService.ListCaptureSessions": [f"GET {SESSIONS}"],
    "CaptureService.StartCaptureSession": [f"POST {SESSIONS}/{{capture_session_id}}/start *"],
    "CaptureService.StopCaptureSession": [f"POST {SESSIONS}/{{capture_session_id}}/stop *"],
    "SensorService.CreateSensor": ["POST /sensors sensor"],
    "SensorService.GetSensor": [f"GET {SENSOR}"],
    "SensorService.ListSensors": ["GET /sensors"],
    "SensorService.RotateSensorToken": [f"POST {SENSOR}/token:rotate *"],
    "ConversionProfileService.CreateConversionProfile": [f"POST {PROFILES} conversion_profile"],
    "ConversionProfileService.GetConversionProfile": [f"GET {PROFILES}/{{conversion_profile_id}}"],
    "ConversionProfileService.ListConversionProfiles": [f"GET {PROFILES}"],
    "ConversionProfileService.PublishConversionProfile": [f"POST {PROFILES}/{{conversion_profile_id}}:publish *"],
    "TelemetryIngestService.TelemetryIngest": [],
    "TelemetryIngestService.AppendTelemetry": ["POST /telemetry *"],
    "TelemetryIngestService.GetIngestCursor": ["GET /telemetry/cursor"],
    "TelemetryService.QueryTelemetry": ["GET /telemetry/query"],
    "TelemetryService.GetSeries": ["GET /telemetry/series"],
    "TelemetryService.GetLatest": ["GET /telemetry/latest"],
    "TelemetryService.StreamTelemetry": ["GET /telemetry/stream"],
    "TelemetryService.ListChannels": ["GET /channels"],
}
# Ids that are no UUID: the name of a device's boot, and that of an upload.
NAMES = {"boot_id", "upload_id"}
# Filters that are only compared: the size of a message is their limit.
COMPARED = {"ListExperiments.tags", "ListRuns.tags"}

RPCS = [rpc for service in services() for rpc in rpcs(service)]
every_rpc = pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)


def test_the_rest_paths_are_the_agreed_ones() -> None:
    found = {
        f"{service.name}.{method.name}": [
            f"{verb.upper()} {path} {body}".strip() for verb, path, body in http_rules(method)
        ]
        for service in services()
        for method in service.methods
    }
    assert found == {name: [one.replace(" ", f" {API}", 1) for one in paths] for name, paths in REST.items()}


@every_rpc
def test_every_rpc_says_who_may_call_and_what_a_change_is_called(rpc: Rpc) -> None:
    assert rpc.access.role != Access.ROLE_UNSPECIFIED
    assert rpc.read_only == rpc.name.startswith(("Get", "List", "Query", "Stream"))
    # A sample carries where it came from itself.
    audited = not rpc.read_only and rpc.access.role != Access.SENSOR
    assert bool(re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", rpc.access.audit)) is audited


def test_audit_verbs_are_unique() -> None:
    verbs = [rpc.access.audit for rpc in RPCS if rpc.access.audit]
    assert len(verbs) == len(set(verbs))


@every_rpc
def test_reads_are_get_and_changes_are_not(rpc: Rpc) -> None:
    [method] = [
        one for service in services() for one in service.methods if f"{service.full_name}/{one.name}" == rpc.method
    ]
    for verb, _, body in http_rules(method):
        assert (verb == "get") is rpc.read_only
        assert not body or verb in {"post", "patch"}


def inputs(
    message: Descriptor, path: str = "", seen: frozenset[str] = frozenset()
) -> Iterator[tuple[str, FieldDescriptor]]:
    """Every field that a caller can set in a request, messages within it included."""
    if message.full_name in seen or not message.full_name.startswith("rigmesh."):
        return
    for field in message.fields:
        if field.message_type and not field.message_type.GetOptions().map_entry:
            yield from inputs(field.message_type, f"{path}{field.name}.", seen | {message.full_name})
        else:
            yield f"{path}{field.name}", field


def given_by_server(field: FieldDescriptor) -> bool:
    return behavior.OUTPUT_ONLY in field.GetOptions().Extensions[behavior.field_behavior]


@every_rpc
def test_ids_are_checked_to_be_uuids(rpc: Rpc) -> None:
    for path, field in inputs(rpc.request.DESCRIPTOR):
        if re.search(r"_ids?$", field.name) and field.name not in NAMES and not given_by_server(field):
            rules = field.GetOptions().Extensions[validate_pb2.field]
            assert (rules.repeated.items if field.is_repeated else rules).string.uuid, f"{rpc.name}: {path}"


@every_rpc
def test_texts_and_lists_of_a_request_are_bounded(rpc: Rpc) -> None:
    for path, field in inputs(rpc.request.DESCRIPTOR):
        rules = field.GetOptions().Extensions[validate_pb2.field]
        text = rules.repeated.items.string if field.is_repeated else rules.string
        if field.type == field.TYPE_STRING and not given_by_server(field) and f"{rpc.name}.{path}" not in COMPARED:
            assert text.HasField("max_len") or text.HasField("pattern") or text.uuid, f"{rpc.name}: {path}"


IMPORT = re.compile(r"^from [\w.]+ import (?:\([^)]*\)|.*)$", re.MULTILINE)
SOURCES = {
    file: IMPORT.sub("", file.read_text(encoding="utf-8"))
    for folder in ("services", "envoy")
    for file in (ROOT / folder).rglob("*.py")
}


@pytest.mark.parametrize("reason", [name for name, number in ErrorReason.items() if number])
def test_every_reason_is_given_somewhere(reason: str) -> None:
    """By its name alone, or of the enum: not as a status code that is called the same."""
    given = re.compile(rf"(?:(?<![\w.])|ErrorReason\.){reason}\b")
    assert any(given.search(text) for text in SOURCES.values())


def test_every_reason_of_the_enum_that_is_named_is_in_it() -> None:
    """The others are imported by name, or looked up when the edge is rendered."""
    named = {name for text in SOURCES.values() for name in re.findall(r"\bErrorReason\.([A-Z][A-Z_]+)\b", text)}
    assert named <= set(ErrorReason.keys())


def test_every_service_is_served_and_reflected() -> None:
    served = {service.full_name for service, _ in CONTROL_SERVICES} | {INGEST.full_name, READS.full_name}
    assert served == {service.full_name for service in services()} == set(ALL_SERVICES)
    assert {role(service.full_name) for service, _ in CONTROL_SERVICES} == {"control"}
    assert {role(INGEST.full_name), role(READS.full_name)} == {"telemetry"}
    for service, slice_ in CONTROL_SERVICES:
        for method in service.methods:
            assert callable(getattr(slice_, method.name))


def test_openapi_lists_every_path() -> None:
    document = json.loads((ROOT / "proto" / "openapi.json").read_text(encoding="utf-8"))
    listed = {f"{verb.upper()} {path}" for path, verbs in document["paths"].items() for verb in verbs}
    agreed = {one.rpartition(" ")[0] if one.count(" ") == 2 else one for paths in REST.values() for one in paths}
    assert listed == {one.replace(" ", f" {API}") for one in agreed}


def test_two_files_a_noun() -> None:
    """A service file holds one service with its requests and answers; what lasts is in the other."""
    for module in pkgutil.iter_modules(rigmesh.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"rigmesh.v1.{module.name}").DESCRIPTOR
            assert len(file.services_by_name) == int(file.name.endswith("_service.proto")), file.name
