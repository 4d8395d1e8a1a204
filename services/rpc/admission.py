"""The way in and the way out of a call: who may come in is decided here, and what a failed call leaves behind."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from uuid_utils import uuid7

from rigmesh.v1.error_reason_pb2 import LIMIT_EXCEEDED
from services.db import events
from services.db.pool import Connection, Pools
from services.errors import NotFound, PermissionDenied, ResourceExhausted, RigmeshError
from services.rpc import auth, policy, status
from services.rpc.address import caller_address
from services.rpc.call import Call, Principal
from services.rpc.contract import Rpc
from services.rpc.observe import RECEIVED, Observed
from services.rpc.validate import MAX_MESSAGE_BYTES, decode

Context = grpc.aio.ServicerContext[Any, Any]
# The caller or the process goes. Anything else, a panic of a library in Rust for one, is an error that must be seen.
CALL_LEFT = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
log = structlog.get_logger("rigmesh.admission")


@dataclass
class Incoming:
    """A call on its way in: what is known of it so far. `denied` is what rights refused, to be recorded."""

    rpc: Rpc
    metadata: Mapping[str, str]
    observed: Observed
    address: str = ""
    credential: auth.Credential = auth.NO_CREDENTIAL
    request: Message | None = None
    denied: PermissionDenied | NotFound | None = None

    @classmethod
    def of(cls, rpc: Rpc, context: Context) -> "Incoming":
        """The call behind a context. The caller's request id is kept where it is a plain word."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        given = metadata.get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else str(uuid7())
        return cls(rpc, metadata, Observed(rpc, request_id), caller_address(metadata, context.peer()))

    @property
    def request_id(self) -> str:
        return self.observed.request_id

    def decode(self, data: bytes) -> Message:
        """A message of this call, counted. ResourceExhausted above MAX_MESSAGE_BYTES, for good."""
        RECEIVED.labels(*self.observed.labels).inc()
        if len(data) > MAX_MESSAGE_BYTES:
            text = f"a message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES}"
            metadata = {"limit": "message_bytes", "max": str(MAX_MESSAGE_BYTES)}
            raise ResourceExhausted(LIMIT_EXCEEDED, text, metadata=metadata)
        return decode(self.rpc.request, data)


@dataclass(frozen=True)
class Admission:
    """Lets calls in. `note_use` is told of every principal that was."""

    pools: Pools
    instance_key: bytes
    note_use: Callable[[Principal], None]

    def call(self, incoming: Incoming) -> Call:
        """The call as its handler will see it; nobody's until it is admitted."""
        return Call(
            auth.ANONYMOUS,
            incoming.request_id,
            incoming.rpc.access.audit,
            self.instance_key,
            self.pools,
            incoming.address,
        )

    async def admit(self, incoming: Incoming, call: Call, db: Connection) -> None:
        """Authenticates, then checks CSRF, scope and role. Raises Unauthenticated, PermissionDenied or NotFound."""
        principal = call.principal = await auth.authenticate(db, incoming.rpc, incoming.credential)
        incoming.observed.principal = principal.name
        try:
            auth.check_csrf(principal, incoming.rpc, incoming.metadata, call.key("csrf"))
            await policy.authorise(db, incoming.rpc, principal, incoming.request)
        except (PermissionDenied, NotFound) as error:
            incoming.denied = error
            raise
        self.note_use(principal)

    async def account(self, incoming: Incoming, error: BaseException) -> RigmeshError | None:
        """Logs and counts a call that raised, and says what its caller is told; None when nobody is left to be told."""
        if isinstance(error, CALL_LEFT):
            incoming.observed.end(grpc.StatusCode.CANCELLED)
            return None
        seen = status.translate(error)
        unforeseen = seen.code is grpc.StatusCode.INTERNAL
        incoming.observed.end(seen.code, seen.reason, error if unforeseen else None)
        if incoming.denied is not None or isinstance(seen, PermissionDenied):
            await self._record_denied(incoming, seen.reason)
        return seen

    async def _record_denied(self, incoming: Incoming, reason: str) -> None:
        ids = policy.resource_ids(incoming.rpc, incoming.request) if incoming.request else ""
        try:
            async with self.pools.write.connection() as db:
                await events.append_denied(
                    db,
                    actor=incoming.observed.principal,
                    method=incoming.rpc.method,
                    reason=reason,
                    resource_id=ids,
                    request_id=incoming.request_id,
                )
        except Exception as error:
            # The refusal stands and must reach the caller, recorded or not.
            log.error("a denied attempt was not recorded", exc_info=error)
