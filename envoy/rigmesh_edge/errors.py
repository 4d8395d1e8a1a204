"""The edge's own answers, in the form that the services give theirs: google.rpc.Status, as JSON or as gRPC."""

import base64
from typing import Any, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from rigmesh.v1.error_reason_pb2 import ErrorReason

Json = dict[str, Any]

_LOCAL_TEXT = "%LOCAL_REPLY_BODY%"


class _Answer(NamedTuple):
    """What an HTTP status of Envoy's own is told as. `text` None = Envoy's text, which then names what was wrong.

    `told_http` is the HTTP status that the caller sees, where it is another one.
    """

    http: int
    code: str
    reason: str
    text: str | None
    told_http: int | None = None


# Texts are fixed where Envoy's own would tell of its inside or of what stands behind it.
_ANSWERS = (
    _Answer(400, "INVALID_ARGUMENT", "MALFORMED_REQUEST", None),
    _Answer(403, "PERMISSION_DENIED", "CSRF_TOKEN_INVALID", None),
    _Answer(404, "NOT_FOUND", "NOT_FOUND", "There is nothing under this method and path."),
    _Answer(408, "DEADLINE_EXCEEDED", "TIMEOUT", "The request took too long to arrive."),
    _Answer(413, "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "The request body is larger than 4 MiB."),
    _Answer(415, "INVALID_ARGUMENT", "MALFORMED_REQUEST", None),
    _Answer(426, "INVALID_ARGUMENT", "MALFORMED_REQUEST", "HTTP/1.1 or HTTP/2 is needed."),
    _Answer(429, "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "Too many requests."),
    _Answer(431, "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "More than 100 header fields or 32 KiB of them."),
    # A transfer coding that Envoy does not know is the caller's mistake, not ours.
    _Answer(501, "INVALID_ARGUMENT", "MALFORMED_REQUEST", "This transfer coding is not supported.", told_http=400),
    _Answer(502, "UNAVAILABLE", "UNAVAILABLE", "The service broke off."),
    _Answer(503, "UNAVAILABLE", "UNAVAILABLE", "The service is away; try again soon."),
    _Answer(504, "DEADLINE_EXCEEDED", "TIMEOUT", "The service took too long."),
)


def rest_format() -> Json:
    """Envoy's format for whatever no mapper names."""
    return _json_format(_Answer(500, "INTERNAL", "INTERNAL", "The request could not be served."))


def mappers() -> list[Json]:
    """Envoy's mappers, of which the first that fits is taken: native gRPC callers come before everyone else."""
    return [_UNCHANGED, *(_grpc_mapper(answer) for answer in _ANSWERS), *(_rest_mapper(answer) for answer in _ANSWERS)]


def _rest_mapper(answer: _Answer) -> Json:
    told = {} if answer.told_http is None else {"status_code": answer.told_http}
    return {"filter": _status_filter(answer.http), "body_format_override": _json_format(answer), **told}


def _grpc_mapper(answer: _Answer) -> Json:
    # A service that Envoy does not know is UNIMPLEMENTED by gRPC's own rules.
    code = "UNIMPLEMENTED" if answer.http == 404 else answer.code
    headers = {"grpc-status": str(Code.Value(code))}
    if answer.text is not None:
        headers["grpc-status-details-bin"] = _details(code, answer)
    return {
        "filter": {"and_filter": {"filters": [_status_filter(answer.http), *_NATIVE_GRPC]}},
        "body_format_override": {"text_format_source": {"inline_string": answer.text or _LOCAL_TEXT}},
        "headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
    }


def _json_format(answer: _Answer) -> Json:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": _checked(answer.reason),
        "domain": "rigmesh",
        "metadata": {},
    }
    body = {"code": Code.Value(answer.code), "message": answer.text or _LOCAL_TEXT, "details": [info]}
    return {"json_format": body}


def _details(code: str, answer: _Answer) -> str:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=_checked(answer.reason), domain="rigmesh"))
    status = Status(code=Code.Value(code), message=answer.text or "", details=[detail])
    return base64.b64encode(status.SerializeToString(deterministic=True)).decode().rstrip("=")


def _checked(reason: str) -> str:
    return ErrorReason.Name(ErrorReason.Value(reason))


def _status_filter(status: int) -> Json:
    # Envoy wants a runtime key; ours is never set.
    value = {"default_value": status, "runtime_key": "rigmesh.never_set"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


# Envoy counts files that it serves among its own answers.
_UNCHANGED = {
    "filter": _status_filter(200),
    "body_format_override": {
        "text_format_source": {"inline_string": _LOCAL_TEXT},
        "content_type": "application/json",
    },
}

# The transcoder turns REST calls into gRPC ones, but leaves their former path behind.
_NATIVE_GRPC = (
    {"header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}}},
    {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True, "invert_match": True}}},
)
