"""From bytes to a message that keeps every shape rule: the one layer in front of all handlers."""

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import protovalidate
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1.error_reason_pb2 import INVALID_FIELDS, MALFORMED_REQUEST
from services.errors import InvalidArgument, invalid_field

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
STRUCT_MAX_BYTES, STRUCT_MAX_KEYS, STRUCT_MAX_DEPTH = 16 * 1024, 64, 16
MAX_VIOLATIONS = 16
M = TypeVar("M", bound=Message)
_validator = protovalidate.Validator()


def decode(message_class: type[M], data: bytes) -> M:
    """Parses; any malformed input, bad UTF-8 or too deep a nesting gets one fixed text."""
    try:
        return message_class.FromString(data)
    except (DecodeError, RecursionError):
        raise InvalidArgument(MALFORMED_REQUEST, "the request is not a valid message of this method") from None


def validate(message: Message) -> None:
    """Checks the rules of the contract, then what they cannot say: NUL characters, Struct limits, Timestamp range."""
    try:
        _validator.validate(message)
    except protovalidate.ValidationError as error:
        raise _broken_rules(error) from None
    for path, value in _leaves(message, ""):
        if isinstance(value, str) and "\0" in value:
            raise invalid_field(path, "must not contain a NUL character")
        if isinstance(value, Struct):
            _check_struct(path, value)
        if isinstance(value, Timestamp) and not _in_range(value):
            raise invalid_field(path, "must lie in the years 1 to 9999, with nanos from 0 to 999999999")


def _broken_rules(error: protovalidate.ValidationError) -> InvalidArgument:
    violations = error.violations[:MAX_VIOLATIONS]
    fields = {_path(violation): violation.proto.message or violation.proto.rule_id for violation in violations}
    text = "; ".join(f"{field}: {description}" for field, description in fields.items())
    return InvalidArgument(INVALID_FIELDS, text, fields=fields)


def _path(violation: Any) -> str:
    path = ""
    for element in violation.proto.field.elements:
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path


def _leaves(message: Message, prefix: str) -> Iterator[tuple[str, object]]:
    """Strings, Structs and Timestamps with their paths; numbers are not visited, so arrays of samples cost nothing."""
    for field, value in message.ListFields():
        path = prefix + field.name
        if field.type == field.TYPE_STRING:
            yield from ((path, text) for text in (value if field.is_repeated else (value,)))
        elif field.type == field.TYPE_MESSAGE:
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                yield from ((path, part) for pair in value.items() for part in pair)
            else:
                for child in value if field.is_repeated else (value,):
                    yield from _message_leaves(child, path)


def _message_leaves(message: Message, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(message, Struct | Timestamp):
        yield path, message
    else:
        yield from _leaves(message, path + ".")


def _check_struct(path: str, struct: Struct) -> None:
    if struct.ByteSize() > STRUCT_MAX_BYTES or len(struct.fields) > STRUCT_MAX_KEYS:
        raise invalid_field(path, f"must have at most {STRUCT_MAX_KEYS} keys and {STRUCT_MAX_BYTES} bytes")
    _check_value(path, Value(struct_value=struct), STRUCT_MAX_DEPTH)


def _check_value(path: str, value: Value, depth: int) -> None:
    if depth < 0:
        raise invalid_field(path, f"must be nested at most {STRUCT_MAX_DEPTH} levels deep")
    match value.WhichOneof("kind"):
        case "string_value" if "\0" in value.string_value:
            raise invalid_field(path, "must not contain a NUL character")
        case "number_value" if not math.isfinite(value.number_value):
            raise invalid_field(path, "must hold finite numbers")
        case "struct_value":
            for key, child in value.struct_value.fields.items():
                if "\0" in key:
                    raise invalid_field(path, "must not contain a NUL character")
                _check_value(path, child, depth - 1)
        case "list_value":
            for child in value.list_value.values:
                _check_value(path, child, depth - 1)


def _in_range(timestamp: Timestamp) -> bool:
    return -62135596800 <= timestamp.seconds <= 253402300799 and 0 <= timestamp.nanos <= 999_999_999
