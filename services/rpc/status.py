"""Exceptions become google.rpc.Status here and nowhere else. No SQL, stack or type name leaves."""

from collections.abc import Mapping

import grpc
import psycopg
import psycopg.errors as pg
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from psycopg_pool import PoolTimeout, TooManyRequests

from rigmesh.v1.error_reason_pb2 import ALREADY_EXISTS, CONFLICT, INTERNAL, INVALID_FIELDS, TIMEOUT, UNAVAILABLE
from services.errors import Aborted, AlreadyExists, DeadlineExceeded, InvalidArgument, RigmeshError, Unavailable

DOMAIN = "rigmesh"

# All of it travels in trailing headers, of which clients and proxies take 8 KiB; base64 and percent-encoding make it
# longer still. Bytes of UTF-8.
MESSAGE_BYTES, METADATA_BYTES = 640, 800
FIELDS_BYTES, PATH_BYTES, DESCRIPTION_BYTES = 2400, 64, 160
ENTRY_BYTES = 8  # tags and lengths around a name and its text

# Unique constraints that a caller can run into, with the resource and field to name.
UNIQUE = {
    "users_username_key": ("user", "username"),
    "users_email_key": ("user", "email"),
    "project_members_pkey": ("member", "user_id"),
}


def translate(error: BaseException) -> RigmeshError:
    """The error that the caller sees. What nobody foresaw is INTERNAL and goes to the log with its stack."""
    match error:
        case RigmeshError():
            return error
        case pg.UniqueViolation() if error.diag.constraint_name in UNIQUE:
            resource, field = UNIQUE[error.diag.constraint_name]
            return AlreadyExists(
                ALREADY_EXISTS,
                f"a {resource} with this {field} exists",
                metadata={"resource": resource, "field": field},
            )
        case pg.IdleInTransactionSessionTimeout():
            return DeadlineExceeded(TIMEOUT, "the reader paused for more than a minute")
        case pg.QueryCanceled() | TimeoutError():
            return DeadlineExceeded(TIMEOUT, "the call took longer than allowed")
        case pg.DeadlockDetected() | pg.SerializationFailure() | pg.LockNotAvailable():
            return Aborted(CONFLICT, "another call changed the same things at this moment", retry_after_s=0.2)
        case psycopg.DataError():
            return InvalidArgument(INVALID_FIELDS, "a value is outside of what can be stored")
        case psycopg.OperationalError() | PoolTimeout() | TooManyRequests() | psycopg.InterfaceError():
            return Unavailable(UNAVAILABLE, "the database is not available", retry_after_s=1.0)
    return RigmeshError(INTERNAL, "an internal error; the request id finds it in the log")


def to_status(error: RigmeshError, request_id: str) -> Status:
    """google.rpc.Status with ErrorInfo, RequestInfo and, where they apply, BadRequest and RetryInfo."""
    details: list[Message] = [
        ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_bounded(error.metadata, METADATA_BYTES)),
        RequestInfo(request_id=request_id),
    ]
    if error.fields:
        fields = {_cut(path, PATH_BYTES): _cut(text, DESCRIPTION_BYTES) for path, text in error.fields.items()}
        bounded = _bounded(fields, FIELDS_BYTES)
        violations = [BadRequest.FieldViolation(field=path, description=text) for path, text in bounded.items()]
        details.append(BadRequest(field_violations=violations))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(RetryInfo(retry_delay=delay))
    message = _cut(error.message, MESSAGE_BYTES)
    return Status(code=error.code.value[0], message=message, details=[_packed(detail) for detail in details])


async def abort(context: grpc.aio.ServicerContext[object, object], error: RigmeshError, request_id: str) -> None:
    """Ends the call; grpc carries the details in one trailing header."""
    status = to_status(error, request_id)
    trailers = [
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-request-id", request_id),
    ]
    if error.retry_after_s is not None:
        trailers.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    await context.abort(error.code, status.message, tuple(trailers))


def _bounded(texts: Mapping[str, str], size: int) -> dict[str, str]:
    """The first entries that fit into `size` bytes, the last of them cut."""
    kept: dict[str, str] = {}
    for name, text in texts.items():
        size -= len(name.encode()) + ENTRY_BYTES
        if size <= 0:
            break
        kept[name] = _cut(text, size)
        size -= len(kept[name].encode())
    return kept


def _cut(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: max(0, size - 3)].decode(errors="ignore") + "…"


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
