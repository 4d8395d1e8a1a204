"""Reads the descriptors: every RPC with what the pipeline must know of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rigmesh.v1.options_pb2 import Access, access


@dataclass(frozen=True)
class Rpc:
    """One RPC of the contract."""

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    access: Access
    streams_request: bool
    streams_response: bool
    read_only: bool

    @property
    def opens_own_transactions(self) -> bool:
        """Streams, and ingest: its effect is exactly once by lane, shared with other streams' commits."""
        return self.streams_response or (self.access.role == Access.SENSOR and not self.read_only)

    @property
    def method(self) -> str:
        """As on the wire, without the leading slash: "rigmesh.v1.RunService/GetRun"."""
        return f"{self.service}/{self.name}"


def rpcs(service: ServiceDescriptor) -> Iterator[Rpc]:
    """The RPCs of a service. ValueError when one does not say who may call it, or how its change is called."""
    for method in service.methods:
        yield _rpc(service, method)


def _rpc(service: ServiceDescriptor, method: MethodDescriptor) -> Rpc:
    options = method.GetOptions()
    rule = options.Extensions[access]
    read_only = options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    audited = not read_only and rule.role != Access.SENSOR
    if rule.role == Access.ROLE_UNSPECIFIED or bool(rule.audit) != audited:
        raise ValueError(
            f"{service.full_name}/{method.name} must declare a role, and an audit verb if it changes things"
        )
    return Rpc(
        service=service.full_name,
        name=method.name,
        request=GetMessageClass(method.input_type),
        response=GetMessageClass(method.output_type),
        access=rule,
        streams_request=method.client_streaming,
        streams_response=method.server_streaming,
        read_only=read_only,
    )
