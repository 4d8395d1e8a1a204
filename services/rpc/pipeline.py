"""Every call goes through here, in this order:

request id → form of the credential → decode → validate → transaction → idempotency lock → authenticate → CSRF → role →
replay → handler → events → stored answer → commit → log and metrics. What goes wrong leaves through `status`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from services.db import events
from services.rpc import auth, idempotency, status
from services.rpc.admission import Admission, Context, Incoming
from services.rpc.call import Call
from services.rpc.contract import Rpc, rpcs
from services.rpc.guard import guarded
from services.rpc.observe import SENT
from services.rpc.validate import validate

Handler = Callable[[Any, Call], Any]


@dataclass(frozen=True)
class Pipeline:
    """Turns the slices of a process into gRPC handlers."""

    admission: Admission

    def handlers(self, service: ServiceDescriptor, slice_: object) -> grpc.GenericRpcHandler:
        """Handlers for all RPCs of a service: `slice_` has a function of the name of each."""
        methods = {rpc.name: self._handler(rpc, getattr(slice_, rpc.name)) for rpc in rpcs(service)}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _handler(self, rpc: Rpc, handler: Handler) -> "grpc.RpcMethodHandler[Any, Any]":
        async def unary(data: bytes, context: Context) -> Message:
            incoming = Incoming.of(rpc, context)
            try:
                call, response = await self._unary(incoming, handler, data)
                await context.send_initial_metadata((("x-request-id", call.request_id), *call.response_headers))
            except BaseException as error:
                seen = await self.admission.account(incoming, error)
                if seen is not None:
                    await status.abort(context, seen, incoming.request_id)
                raise
            incoming.observed.end(grpc.StatusCode.OK)
            return response

        async def stream(data: bytes | AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
            incoming, sent = Incoming.of(rpc, context), False
            try:
                async with aclosing(self._stream(incoming, handler, data)) as messages:
                    async for message in messages:
                        if not sent:
                            # Not before: with headers sent, a refusal could not become an HTTP status any more.
                            await context.send_initial_metadata((("x-request-id", incoming.request_id),))
                            sent = True
                        yield message
            except BaseException as error:
                # Accounted for before anything more is sent: the caller may leave at that very message.
                seen = await self.admission.account(incoming, error)
                if seen is None:
                    raise
                # The same holds for an error in mid-stream, which is therefore said in the stream as well.
                if sent and "error" in rpc.response.DESCRIPTOR.fields_by_name:
                    yield rpc.response(error=status.to_status(seen, incoming.request_id))
                await status.abort(context, seen, incoming.request_id)
            else:
                incoming.observed.end(grpc.StatusCode.OK)

        if rpc.streams_request:
            return grpc.stream_stream_rpc_method_handler(stream, response_serializer=_serialise)
        if rpc.streams_response:
            return grpc.unary_stream_rpc_method_handler(stream, response_serializer=_serialise)
        return grpc.unary_unary_rpc_method_handler(unary, response_serializer=_serialise)

    async def _unary(self, incoming: Incoming, handler: Handler, data: bytes) -> tuple[Call, Message]:
        rpc = incoming.rpc
        incoming.credential = auth.read_credential(rpc, incoming.metadata)
        key = idempotency.read_key(rpc, incoming.metadata)
        request = incoming.request = incoming.decode(data)
        validate(request)
        call = self.admission.call(incoming)
        if rpc.opens_own_transactions:
            async with call.pools.read.connection() as db:
                await self.admission.admit(incoming, call, db)
            response = await handler(request, call)
        else:
            pool = call.pools.read if rpc.read_only else call.pools.write
            async with pool.connection() as db, db.transaction():
                call.open_db = db
                response = await self._in_transaction(incoming, handler, call, key)
        SENT.labels(*incoming.observed.labels).inc()
        return call, response

    async def _in_transaction(self, incoming: Incoming, handler: Handler, call: Call, key: str) -> Message:
        rpc, request = incoming.rpc, incoming.request
        assert request is not None
        if not key:
            await self.admission.admit(incoming, call, call.db)
            return await _handled(call, rpc, handler, request)
        digest = idempotency.request_hash(request)
        await idempotency.lock(call.db, incoming.credential.hash, rpc, key)
        await self.admission.admit(incoming, call, call.db)
        stored = await idempotency.replay(call, rpc, key, digest)
        if stored is not None:
            return stored
        response = await _handled(call, rpc, handler, request)
        await idempotency.store(call, rpc, key, digest, response)
        return response

    async def _stream(
        self, incoming: Incoming, handler: Handler, data: bytes | AsyncIterator[bytes]
    ) -> AsyncGenerator[Message, None]:
        incoming.credential = auth.read_credential(incoming.rpc, incoming.metadata)
        if isinstance(data, bytes):
            request: Any = incoming.decode(data)
            validate(request)
            incoming.request = request
        else:
            request = _frames(incoming, data)
        call = self.admission.call(incoming)

        async def admit() -> None:
            async with call.pools.read.connection() as db:
                await self.admission.admit(incoming, call, db)

        await admit()
        async with aclosing(guarded(handler(request, call), admit)) as messages:
            async for message in messages:
                SENT.labels(*incoming.observed.labels).inc()
                yield message


async def _handled(call: Call, rpc: Rpc, handler: Handler, request: Message) -> Message:
    response: Message = await handler(request, call)
    if rpc.access.audit:
        assert call.events, f"{rpc.method} changed something and told nobody"
        await events.append(call.db, call.events, call.principal.name, call.request_id)
    return response


async def _frames(incoming: Incoming, frames: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for data in frames:
        yield incoming.decode(data)


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
