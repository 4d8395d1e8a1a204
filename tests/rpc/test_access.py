"""Every RPC says who may call it, and what it says can be kept."""

import importlib
import pkgutil

import pytest
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool

import rigmesh.v1
from rigmesh.v1.options_pb2 import Access, access
from services.rpc.contract import Rpc, rpcs
from services.rpc.policy import ROLE_ON

MODULES = [importlib.import_module(f"rigmesh.v1.{found.name}") for found in pkgutil.iter_modules(rigmesh.v1.__path__)]
SERVICES = [
    service
    for module in MODULES
    if hasattr(module, "DESCRIPTOR")
    for service in module.DESCRIPTOR.services_by_name.values()
]
RPCS = [rpc for service in SERVICES for rpc in rpcs(service)]
every_rpc = pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)


@every_rpc
def test_a_project_role_says_on_which_project(rpc: Rpc) -> None:
    assert rpc.access.resource or rpc.access.role not in (Access.VIEWER, Access.EDITOR, Access.OWNER)
    for path in rpc.access.resource:
        name = field_at(rpc.request.DESCRIPTOR, path.split("."))
        assert name.removesuffix("s") in ROLE_ON, path


@every_rpc
def test_only_answers_that_hold_a_token_are_marked_secret(rpc: Rpc) -> None:
    assert not rpc.access.returns_secret or "token" in rpc.response.DESCRIPTOR.fields_by_name


def test_a_service_that_does_not_say_is_refused() -> None:
    assert RPCS
    with pytest.raises(ValueError, match=r"silent\.Silent/Speak must declare a role"):
        list(rpcs(silent_service(MethodOptions())))


@pytest.mark.parametrize(("audit", "read_only"), [("", False), ("thing.done", True)])
def test_changes_have_an_audit_verb_and_reads_have_none(audit: str, read_only: bool) -> None:
    options = MethodOptions()
    options.Extensions[access].CopyFrom(Access(role=Access.SELF, audit=audit))
    if read_only:
        options.idempotency_level = MethodOptions.NO_SIDE_EFFECTS
    with pytest.raises(ValueError, match="an audit verb if it changes things"):
        list(rpcs(silent_service(options)))


def field_at(message: Descriptor, path: list[str]) -> str:
    """Name of the field at the end of a path; KeyError when there is none."""
    field = message.fields_by_name[path[0]]
    return field_at(field.message_type, path[1:]) if path[1:] else field.name


def silent_service(options: MethodOptions) -> ServiceDescriptor:
    file = FileDescriptorProto(name="silent.proto", package="silent", syntax="proto3")
    file.message_type.add(name="Nothing")
    method = file.service.add(name="Silent").method.add(
        name="Speak", input_type=".silent.Nothing", output_type=".silent.Nothing"
    )
    method.options.CopyFrom(options)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("silent.Silent")
