"""What the client raises beside gRPC's own errors."""

from collections.abc import Iterable

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status


class RigmeshError(Exception):
    """The root of what follows."""


class StreamRefused(RigmeshError):
    """The server does not take this stream, and trying again would not help: a wrong token, session or sensor.

    `reason` is a name of the contract's ErrorReason, empty where something else than Rigmesh answered.
    """

    def __init__(self, code: grpc.StatusCode, reason: str, details: str):
        super().__init__(f"{reason or code.name}: {details}")
        self.code = code
        self.reason = reason


class NotConnected(RigmeshError):
    """The stream could not be opened within its time; the text says what went wrong last."""


class DataMissing(RigmeshError):
    """The server's account at the end of the stream does not cover what was sent, and it cannot be sent again."""


class IncompleteAnswer(RigmeshError):
    """A streamed answer ended without its end message: what came is not all."""


class AnswerBroken(RigmeshError):
    """A streamed answer ended with an error of the server inside the stream."""

    def __init__(self, code: int, message: str):
        super().__init__(f"{message} (code {code})")
        self.code = code


def error_reason(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The ErrorReason that a failed call carries; empty if there is none."""
    for key, value in trailing_metadata or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return ""
