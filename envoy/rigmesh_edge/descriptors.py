"""The contract as the edge sees it, read from the generated code: files, services, and who serves them."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator

from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import code_pb2, error_details_pb2, status_pb2

import rigmesh.v1

# The one place that says which process serves what; every other service is control's.
TELEMETRY_SERVICES = frozenset({"rigmesh.v1.TelemetryIngestService", "rigmesh.v1.TelemetryService"})

# Served beside ours, by control.
STANDARD_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)

# Not imported by the contract's files, but without them Envoy cannot write the details of an error as JSON.
_ERROR_FILES = (status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR, code_pb2.DESCRIPTOR, httpbody_pb2.DESCRIPTOR)


def services() -> tuple[ServiceDescriptor, ...]:
    """Every service of package rigmesh.v1, by name."""
    names = (module.name for module in pkgutil.iter_modules(rigmesh.v1.__path__))
    files = [importlib.import_module(f"rigmesh.v1.{name}").DESCRIPTOR for name in names if name.endswith("_pb2")]
    found = [service for file in files for service in file.services_by_name.values()]
    return tuple(sorted(found, key=lambda service: service.full_name))


def role(service: str) -> str:
    """The process that serves a service: "control" or "telemetry"."""
    return "telemetry" if service in TELEMETRY_SERVICES else "control"


def is_stream(method: MethodDescriptor) -> bool:
    """True where either side may send many messages, so that no time limit fits and nothing may be held back."""
    return method.client_streaming or method.server_streaming


def http_rules(method: MethodDescriptor) -> tuple[tuple[str, str, str], ...]:
    """Verb, path and body field of each REST form of a method; empty where it has none."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return ()
    rule = options.Extensions[annotations_pb2.http]
    return tuple(_binding(one) for one in (rule, *rule.additional_bindings))


def _binding(rule: http_pb2.HttpRule) -> tuple[str, str, str]:
    verb = rule.WhichOneof("pattern")
    if verb is None or verb == "custom":
        raise ValueError(f"an http rule must name one of the standard verbs: {rule}")
    return verb, getattr(rule, verb), rule.body


def descriptor_set() -> bytes:
    """A serialized FileDescriptorSet of all services and error details, each file after those that it imports."""
    answer = FileDescriptorSet()
    for file in _in_order([*(service.file for service in services()), *_ERROR_FILES]):
        file.CopyToProto(answer.file.add())
    return answer.SerializeToString(deterministic=True)


def _in_order(files: Iterable[FileDescriptor]) -> Iterator[FileDescriptor]:
    seen: set[str] = set()

    def visit(file: FileDescriptor) -> Iterator[FileDescriptor]:
        if file.name not in seen:
            seen.add(file.name)
            for dependency in file.dependencies:
                yield from visit(dependency)
            yield file

    for file in files:
        yield from visit(file)
