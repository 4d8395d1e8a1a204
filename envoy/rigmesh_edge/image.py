"""The contract with its comments, which generated code does not carry."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

# Field numbers of descriptor.proto, of which the paths in SourceCodeInfo are made.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_NESTED_FIELD, _NESTED_MESSAGE, _NESTED_ENUM = 2, 3, 4
_ENUM_VALUE, _METHOD = 2, 2

Path_ = tuple[int, ...]


class Image:
    """Messages, enums and services by full name with a leading dot, as `type_name` has it."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self.services: dict[str, ServiceDescriptorProto] = {}
        self._comments: dict[str, str] = {}
        for file in files.file:
            self._add_file(file)

    def comment(self, full_name: str) -> str:
        """The comment above a message, field, enum, value, service or method; empty when there is none."""
        return self._comments.get(full_name, "")

    def map_entry(self, field: FieldDescriptorProto) -> DescriptorProto | None:
        """The key and value of a map field; None for others."""
        message = self.messages.get(field.type_name)
        return message if message is not None and message.options.map_entry else None

    def _add_file(self, file: FileDescriptorProto) -> None:
        names: dict[Path_, str] = {}
        package = f".{file.package}"
        for index, message in enumerate(file.message_type):
            names.update(self._add_message(package, message, (_MESSAGE, index)))
        for index, enum in enumerate(file.enum_type):
            names.update(self._add_enum(package, enum, (_ENUM, index)))
        for index, service in enumerate(file.service):
            names.update(self._add_service(package, service, (_SERVICE, index)))
        for location in file.source_code_info.location:
            name = names.get(tuple(location.path))
            if name is not None:
                self._comments[name] = _text(location.leading_comments)

    def _add_message(self, scope: str, message: DescriptorProto, path: Path_) -> Iterator[tuple[Path_, str]]:
        name = f"{scope}.{message.name}"
        self.messages[name] = message
        yield path, name
        for index, field in enumerate(message.field):
            yield (*path, _NESTED_FIELD, index), f"{name}.{field.name}"
        for index, nested in enumerate(message.nested_type):
            yield from self._add_message(name, nested, (*path, _NESTED_MESSAGE, index))
        for index, enum in enumerate(message.enum_type):
            yield from self._add_enum(name, enum, (*path, _NESTED_ENUM, index))

    def _add_enum(self, scope: str, enum: EnumDescriptorProto, path: Path_) -> Iterator[tuple[Path_, str]]:
        name = f"{scope}.{enum.name}"
        self.enums[name] = enum
        yield path, name
        for index, value in enumerate(enum.value):
            yield (*path, _ENUM_VALUE, index), f"{name}.{value.name}"

    def _add_service(self, scope: str, service: ServiceDescriptorProto, path: Path_) -> Iterator[tuple[Path_, str]]:
        name = f"{scope}.{service.name}"
        self.services[name] = service
        yield path, name
        for index, method in enumerate(service.method):
            yield (*path, _METHOD, index), f"{name}.{method.name}"


def build(proto_folder: Path) -> Image:
    """Compiles the .proto files with the buf beside this Python. CalledProcessError: they do not compile."""
    buf = str(Path(sys.executable).with_name("buf"))
    command = [buf, "build", str(proto_folder), "-o", "-#format=binpb"]
    return Image(FileDescriptorSet.FromString(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def _text(comment: str) -> str:
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.strip("\n").splitlines())
