"""What a handler raises when it says no: one class a status code, each with a reason from error_reason.proto."""

from collections.abc import Mapping

import grpc

from rigmesh.v1.error_reason_pb2 import ErrorReason


class RigmeshError(Exception):
    """The root. `metadata` holds every part of the text that varies; `retry_after_s` becomes RetryInfo."""

    code = grpc.StatusCode.INTERNAL

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = ErrorReason.Name(reason)
        self.message = message
        self.metadata = dict(metadata or {})
        self.fields = dict(fields or {})
        self.retry_after_s = retry_after_s


class InvalidArgument(RigmeshError):
    code = grpc.StatusCode.INVALID_ARGUMENT


class Unauthenticated(RigmeshError):
    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(RigmeshError):
    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(RigmeshError):
    """Absent and "not yours" look the same: both are raised through `not_found`."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(RigmeshError):
    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(RigmeshError):
    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(RigmeshError):
    code = grpc.StatusCode.ABORTED


class ResourceExhausted(RigmeshError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class DeadlineExceeded(RigmeshError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unavailable(RigmeshError):
    code = grpc.StatusCode.UNAVAILABLE


def not_found(resource: str, resource_id: str) -> NotFound:
    """The one text for what is absent and for what the caller may not see."""
    return NotFound(ErrorReason.NOT_FOUND, f"{resource} not found", metadata={"resource": resource, "id": resource_id})


def invalid_field(field: str, description: str) -> InvalidArgument:
    """One field that breaks a rule which the contract cannot state."""
    return InvalidArgument(ErrorReason.INVALID_FIELDS, f"{field}: {description}", fields={field: description})
