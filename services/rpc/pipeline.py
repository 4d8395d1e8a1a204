"""Every call goes through here, in this order:

request id → form of the credential → decode → validate → transaction → idempotency lock → authenticate → CSRF → role →
replay → handler → events → stored answer → commit → log and metrics. What goes wrong leaves through `status`.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from uuid_utils import uuid7

from services.db import events
from services.db.pool import Pools
from services.errors import NotFound, PermissionDenied
from services.rpc import auth, idempotency, policy, status
from services.rpc.call import Call, Principal
from services.rpc.contract import Rpc, rpcs
from services.rpc.guard import guarded
from services.rpc.observe import RECEIVED, SENT, Observed
from services.rpc.validate import decode, validate

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Call], Any]
log = structlog.get_logger("rigmesh.pipeline")


@dataclass
class Incoming:
    """A call on its way in: what is known of it so far. `denied` is what rights refused, to be recorded."""

    rpc: Rpc
    metadata: Mapping[str, str]
    observed: Observed
    credential: auth.Credential = auth.NO_CREDENTIAL
    request: Message | None = None
    denied: PermissionDenied | NotFound | None = None


@dataclass(frozen=True)
class Pipeline:
    """Turns the slices of a process into gRPC handlers. `note_use` is told of every principal that was let in."""

    pools: Pools
    instance_key: bytes
    note_use: Callable[[Principal], None]

    def handlers(self, service: ServiceDescriptor, slice_: object) -> grpc.GenericRpcHandler:
        """Handlers for all RPCs of a service: `slice_` has a method of the name of each."""
        methods = {rpc.name: self._handler(rpc, getattr(slice_, rpc.name)) for rpc in rpcs(service)}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _handler(self, rpc: Rpc, handler: Handler) -> "grpc.RpcMethodHandler[Any, Any]":
        async def unary(data: bytes, context: Context) -> Message:
            incoming = _incoming(rpc, context)
            try:
                response = await self._unary(incoming, handler, data, context)
            except BaseException as error:
                await self._fail(incoming, context, error)
                raise
            incoming.observed.end(grpc.StatusCode.OK)
            return response

        async def stream(data: bytes | AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
            incoming, sent = _incoming(rpc, context), False
            try:
                await context.send_initial_metadata((("x-request-id", incoming.observed.request_id),))
                async for message in self._stream(incoming, handler, data):
                    yield message
                    sent = True
            except GeneratorExit:
                incoming.observed.end(grpc.StatusCode.CANCELLED)
                raise
            except BaseException as error:
                # A transcoder cannot turn a stream that has begun into an HTTP error: say it in the stream as well.
                if sent and "error" in rpc.response.DESCRIPTOR.fields_by_name and isinstance(error, Exception):
                    yield rpc.response(error=status.to_status(status.translate(error), incoming.observed.request_id))
                await self._fail(incoming, context, error)
                raise
            else:
                incoming.observed.end(grpc.StatusCode.OK)

        if rpc.streams_request:
            return grpc.stream_stream_rpc_method_handler(stream, response_serializer=_serialise)
        if rpc.streams_response:
            return grpc.unary_stream_rpc_method_handler(stream, response_serializer=_serialise)
        return grpc.unary_unary_rpc_method_handler(unary, response_serializer=_serialise)

    async def _unary(self, incoming: Incoming, handler: Handler, data: bytes, context: Context) -> Message:
        rpc = incoming.rpc
        incoming.credential = auth.read_credential(rpc, incoming.metadata)
        key = idempotency.read_key(rpc, incoming.metadata)
        request = incoming.request = self._decode(incoming, data)
        validate(request)
        if rpc.opens_own_transactions:
            call = self._call(incoming, auth.ANONYMOUS)
            async with self.pools.read.connection() as db:
                await self._admit(incoming, call, db)
            return await self._reply(incoming, context, call, await handler(request, call))
        pool = self.pools.read if rpc.read_only else self.pools.write
        async with pool.connection() as db, db.transaction():
            call = self._call(incoming, auth.ANONYMOUS)
            call.open_db = db
            if key:
                await idempotency.lock(db, incoming.credential.hash, rpc, key)
            await self._admit(incoming, call, call.db)
            response = await idempotency.replay(call, rpc, key, request) if key else None
            if response is None:
                response = await self._handle(call, rpc, handler, request)
                if key:
                    await idempotency.store(call, rpc, key, request, response)
        return await self._reply(incoming, context, call, response)

    async def _reply(self, incoming: Incoming, context: Context, call: Call, response: Message) -> Message:
        await context.send_initial_metadata((("x-request-id", call.request_id), *call.response_headers))
        SENT.labels(*incoming.observed.labels).inc()
        return response

    async def _handle(self, call: Call, rpc: Rpc, handler: Handler, request: Message) -> Message:
        response: Message = await handler(request, call)
        if rpc.access.audit:
            assert call.events, f"{rpc.method} changed something and told nobody"
            await events.append(call.db, call.events, call.principal.name, call.request_id)
        return response

    async def _stream(
        self, incoming: Incoming, handler: Handler, data: bytes | AsyncIterator[bytes]
    ) -> AsyncIterator[Message]:
        incoming.credential = auth.read_credential(incoming.rpc, incoming.metadata)
        if isinstance(data, bytes):
            request: Any = self._decode(incoming, data)
            validate(request)
            incoming.request = request
        else:
            request = self._frames(incoming, data)
        call = self._call(incoming, auth.ANONYMOUS)

        async def admit() -> None:
            async with self.pools.read.connection() as db:
                await self._admit(incoming, call, db)

        await admit()
        async for message in guarded(handler(request, call), admit):
            SENT.labels(*incoming.observed.labels).inc()
            yield message

    async def _frames(self, incoming: Incoming, frames: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in frames:
            yield self._decode(incoming, data)

    async def _admit(self, incoming: Incoming, call: Call, db: Any) -> None:
        rpc = incoming.rpc
        principal = call.principal = await auth.authenticate(db, rpc, incoming.credential)
        incoming.observed.principal = principal.name
        try:
            auth.check_csrf(principal, rpc, incoming.metadata, call.key("csrf"))
            await policy.authorise(db, rpc, principal, incoming.request)
        except (PermissionDenied, NotFound) as error:
            incoming.denied = error
            raise
        self.note_use(principal)

    def _decode(self, incoming: Incoming, data: bytes) -> Message:
        RECEIVED.labels(*incoming.observed.labels).inc()
        return decode(incoming.rpc.request, data)

    def _call(self, incoming: Incoming, principal: Principal) -> Call:
        return Call(
            principal=principal,
            request_id=incoming.observed.request_id,
            audit=incoming.rpc.access.audit,
            instance_key=self.instance_key,
            pools=self.pools,
        )

    async def _fail(self, incoming: Incoming, context: Context, error: BaseException) -> None:
        observed = incoming.observed
        if not isinstance(error, Exception):
            observed.end(grpc.StatusCode.CANCELLED)
            return
        seen = status.translate(error)
        if incoming.denied is not None or isinstance(seen, PermissionDenied):
            await self._record_denied(incoming, seen.reason)
        unforeseen = seen.code is grpc.StatusCode.INTERNAL
        observed.end(seen.code, seen.reason, error if unforeseen else None)
        await status.abort(context, seen, observed.request_id)

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
                    request_id=incoming.observed.request_id,
                )
        except Exception as error:
            # The refusal stands and must reach the caller, recorded or not.
            log.error("a denied attempt was not recorded", exc_info=error)


def _incoming(rpc: Rpc, context: Context) -> Incoming:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    given = metadata.get("x-request-id", "")
    request_id = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else str(uuid7())
    return Incoming(rpc, metadata, Observed(rpc, request_id))


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
