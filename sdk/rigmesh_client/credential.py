"""What every call carries: the bearer token, a deadline, and an Idempotency-Key where a repetition would do harm."""

import uuid
from collections.abc import Callable
from typing import Any

from grpc.aio import ClientCallDetails, Metadata, UnaryStreamClientInterceptor, UnaryUnaryClientInterceptor

from rigmesh_client.retries import keyed_paths

UNARY_TIMEOUT_S = 30.0


def bearer(token: str) -> Metadata:
    """Metadata of a call with this token; none for an empty one."""
    return Metadata(("authorization", f"Bearer {token}")) if token else Metadata()


def _with_credential(details: ClientCallDetails, credential: Metadata) -> Metadata:
    """The caller's own metadata comes first, and its own credential wins."""
    metadata = Metadata(*(details.metadata or ()))
    if metadata.get("authorization") is None and metadata.get("cookie") is None:
        for key, value in credential:
            metadata.add(key, value)
    return metadata


class UnaryCredential(UnaryUnaryClientInterceptor):
    """For calls with one answer: token, key and a deadline of 30 s, each unless the caller gave its own."""

    def __init__(self, token: str):
        self._credential = bearer(token)
        self._keyed_paths = keyed_paths()

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: ClientCallDetails, request: Any
    ) -> Any:
        details = client_call_details
        metadata = _with_credential(details, self._credential)
        if _path(details) in self._keyed_paths and metadata.get("idempotency-key") is None:
            metadata.add("idempotency-key", str(uuid.uuid4()))
        timeout = UNARY_TIMEOUT_S if details.timeout is None else details.timeout
        return await continuation(_changed(details, timeout, metadata), request)


class StreamCredential(UnaryStreamClientInterceptor):
    """For streamed answers: the token, and no deadline, because an answer may be long."""

    def __init__(self, token: str):
        self._credential = bearer(token)

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: ClientCallDetails, request: Any
    ) -> Any:
        metadata = _with_credential(client_call_details, self._credential)
        return await continuation(_changed(client_call_details, client_call_details.timeout, metadata), request)


def _changed(details: ClientCallDetails, timeout: float | None, metadata: Metadata) -> ClientCallDetails:
    return ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


def _path(details: ClientCallDetails) -> str:
    method: str | bytes = details.method
    return method.decode() if isinstance(method, bytes) else method
