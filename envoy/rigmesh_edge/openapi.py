"""Writes the OpenAPI 3.1 document of the REST interface: `python -m rigmesh_edge.openapi > proto/openapi.json`."""

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, MethodOptions

from rigmesh.v1.options_pb2 import Access, access
from rigmesh_edge.descriptors import http_rules, services
from rigmesh_edge.image import Image, build
from rigmesh_edge.schemas import components, definition, field_schema, is_required, reference

Json = dict[str, Any]

_PROTO = Path(__file__).parents[2] / "proto"

_ABOUT = """REST form of the gRPC services of package rigmesh.v1. Bodies are proto3 JSON with the field names of the \
contract; fields without a value are written as their default. An unknown field in a body is dropped, an unknown query \
parameter is refused. A query parameter never replaces what the path names: the server judges the request as decoded."""

_ERRORS = {
    "400": "INVALID_ARGUMENT, FAILED_PRECONDITION or OUT_OF_RANGE.",
    "401": "UNAUTHENTICATED.",
    "403": "PERMISSION_DENIED, or a call from a foreign origin.",
    "404": "NOT_FOUND: absent, or not the caller's to see.",
    "409": "ALREADY_EXISTS or ABORTED.",
    "413": "A request body over 4 MiB.",
    "415": "A request body that is not application/json, or is compressed.",
    "429": "RESOURCE_EXHAUSTED.",
    "503": "UNAVAILABLE; Retry-After says when to try again.",
    "504": "DEADLINE_EXCEEDED.",
}

# Status and what its details hold.
_ERROR_MESSAGES = [
    reference(f".google.rpc.{name}") for name in ("Status", "ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo")
]


class _Operation(NamedTuple):
    """One REST form of one RPC."""

    image: Image
    service: ServiceDescriptor
    method: MethodDescriptor
    verb: str
    path: str
    body: str
    binding: int

    @property
    def request_fields(self) -> list[FieldDescriptorProto]:
        return list(self.image.messages[f".{self.method.input_type.full_name}"].field)

    @property
    def path_names(self) -> list[str]:
        return re.findall(r"\{([a-z0-9_]+)\}", self.path)


def document(image: Image) -> Json:
    """The whole document, the same for the same contract."""
    paths: dict[str, Json] = {}
    for service in services():
        for method in service.methods:
            for binding, (verb, path, body) in enumerate(http_rules(method)):
                operation = _Operation(image, service, method, verb, path, body, binding)
                paths.setdefault(path, {})[verb] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rigmesh", "version": version("rigmesh"), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [_tag(image, service) for service in services()],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components(image, paths | {"errors": _ERROR_MESSAGES}),
            "responses": {code: _error(text) for code, text in _ERRORS.items()},
            "securitySchemes": _SECURITY,
        },
        "security": [{"bearer": []}, {"session": []}],
    }


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API token, or a sensor's token."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-sid",
        "description": "Set by AuthService_Login. Calls that change something also need `X-CSRF-Token` from GetMe.",
    },
}


def _tag(image: Image, service: ServiceDescriptor) -> Json:
    return {"name": service.name, "description": image.comment(f".{service.full_name}")}


def _error(text: str) -> Json:
    return {"description": text, "content": {"application/json": {"schema": reference(".google.rpc.Status")}}}


def _operation(operation: _Operation) -> Json:
    method = operation.method
    comment = operation.image.comment(f".{method.full_name}")
    # Ids are unique in a document; a second path of the same RPC takes a number.
    suffix = f"_{operation.binding + 1}" if operation.binding else ""
    answer: Json = {
        "operationId": f"{operation.service.name}_{method.name}{suffix}",
        "tags": [operation.service.name],
        "summary": re.split(r"(?<=\.)\s", comment, maxsplit=1)[0],
        "description": comment,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_headers(method)],
        "responses": _responses(method),
    }
    if operation.body:
        answer["requestBody"] = _body(operation)
    if method.GetOptions().Extensions[access].role == Access.PUBLIC:
        answer["security"] = []
    return answer


def _path_parameters(operation: _Operation) -> list[Json]:
    fields = {field.name: field for field in operation.request_fields}
    return [_parameter(operation, fields[name], "path") for name in operation.path_names]


def _query_parameters(operation: _Operation) -> list[Json]:
    if operation.body == "*":
        return []
    taken = {*operation.path_names, operation.body}
    return [_parameter(operation, field, "query") for field in operation.request_fields if field.name not in taken]


def _parameter(operation: _Operation, field: FieldDescriptorProto, place: str) -> Json:
    image = operation.image
    comment = image.comment(f".{operation.method.input_type.full_name}.{field.name}")
    parameter: Json = {
        "name": field.name,
        "in": place,
        "description": comment,
        "schema": field_schema(image, field, ""),
    }
    if place == "path" or is_required(field):
        parameter["required"] = True
    return parameter


def _headers(method: MethodDescriptor) -> list[Json]:
    options = method.GetOptions()
    read_only = options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    # What needs no credential has no owner whose keys could be told apart.
    if read_only or options.Extensions[access].role == Access.PUBLIC:
        return []
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A repeated call with the same key and content is answered as the first one was, for 48 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    }
    token = {
        "name": "X-CSRF-Token",
        "in": "header",
        "description": "From GetMe. Needed with the session cookie only.",
        "schema": {"type": "string"},
    }
    return [token] if options.Extensions[access].ignores_key else [key, token]


def _responses(method: MethodDescriptor) -> Json:
    schema = reference(f".{method.output_type.full_name}")
    content: Json = {"application/json": {"schema": schema}}
    description = "Done."
    if method.server_streaming:
        content = {"text/event-stream": {"schema": {"type": "string"}, "x-event-schema": schema}}
        description = "Server-sent events; the `data` of each is one JSON message of `x-event-schema`."
    errors = {code: {"$ref": f"#/components/responses/{code}"} for code in _ERRORS}
    return {"200": {"description": description, "content": content}} | errors


def _body(operation: _Operation) -> Json:
    if operation.body == "*":
        schema = _rest_of_request(operation)
        return _json_body(schema, required="required" in schema)
    field = next(field for field in operation.request_fields if field.name == operation.body)
    if operation.verb == "patch":
        # A part of the resource is enough to change it.
        partial = definition(operation.image, field.type_name)
        partial.pop("required", None)
        return _json_body(partial, required=True)
    return _json_body(reference(field.type_name), required=is_required(field))


def _json_body(schema: Json, *, required: bool) -> Json:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _rest_of_request(operation: _Operation) -> Json:
    """The request without what its path says already."""
    schema = definition(operation.image, f".{operation.method.input_type.full_name}")
    for name in operation.path_names:
        del schema["properties"][name]
    required = [name for name in schema.pop("required", ()) if name not in operation.path_names]
    return schema | ({"required": required} if required else {})


def main() -> None:
    json.dump(document(build(_PROTO)), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
