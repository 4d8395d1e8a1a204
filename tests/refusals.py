"""What a server says when it refuses a call."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status


@dataclass
class Refusal:
    """Filled in when the call has ended. `fields` are the names in BadRequest, `text` is the message of the status."""

    text: str = ""
    info: ErrorInfo = field(default_factory=ErrorInfo)
    fields: list[str] = field(default_factory=list)
    retry_after_s: float = 0.0


@contextlib.contextmanager
def refused(code: str, reason: str) -> Iterator[Refusal]:
    """Expects the call inside to be refused with this status code and ErrorInfo.reason."""
    refusal = Refusal()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refusal
    _read(caught.value, refusal)
    assert (caught.value.code().name, refusal.info.reason) == (code, reason), refusal.text


def reason_of(outcome: object) -> str:
    """ErrorInfo.reason of a refused call; "" for anything else."""
    refusal = Refusal()
    if isinstance(outcome, grpc.aio.AioRpcError):
        _read(outcome, refusal)
    return refusal.info.reason


def _read(error: grpc.aio.AioRpcError, refusal: Refusal) -> None:
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error}"
    refusal.text = status.message
    bad, retry = BadRequest(), RetryInfo()
    for detail in status.details:
        _ = detail.Unpack(refusal.info) or detail.Unpack(bad) or detail.Unpack(retry)
    refusal.fields = [violation.field for violation in bad.field_violations]
    refusal.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
