"""JSON Schemas of the contract's messages: proto3 JSON form, limits from the validation rules, comments as text."""

import json
import re
from typing import Any

from google.api import field_behavior_pb2
from google.api.field_behavior_pb2 import FieldBehavior
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    OneofDescriptorProto,
)

from buf.validate import validate_pb2
from rigmesh_edge.image import Image

Json = dict[str, Any]

_Type = FieldDescriptorProto.Type

# 64-bit integers are text in proto3 JSON; numbers that JSON cannot write are text too.
_INT64: Json = {"type": "string", "pattern": "^-?[0-9]{1,20}$"}
_FLOAT: Json = {
    "oneOf": [{"type": "number", "format": "double"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}]
}
_SCALARS: dict[int, Json] = {
    _Type.TYPE_DOUBLE: _FLOAT,
    _Type.TYPE_FLOAT: _FLOAT,
    _Type.TYPE_INT64: {**_INT64, "format": "int64"},
    _Type.TYPE_SINT64: {**_INT64, "format": "int64"},
    _Type.TYPE_SFIXED64: {**_INT64, "format": "int64"},
    _Type.TYPE_UINT64: {**_INT64, "format": "uint64"},
    _Type.TYPE_FIXED64: {**_INT64, "format": "uint64"},
    _Type.TYPE_INT32: {"type": "integer", "format": "int32"},
    _Type.TYPE_SINT32: {"type": "integer", "format": "int32"},
    _Type.TYPE_SFIXED32: {"type": "integer", "format": "int32"},
    _Type.TYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    _Type.TYPE_FIXED32: {"type": "integer", "format": "uint32", "minimum": 0},
    _Type.TYPE_BOOL: {"type": "boolean"},
    _Type.TYPE_STRING: {"type": "string"},
    _Type.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: dict[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    ".google.protobuf.FieldMask": {"type": "string", "description": "Field names, separated by commas."},
    ".google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    ".google.protobuf.Value": {},
    ".google.protobuf.ListValue": {"type": "array", "items": {}},
    ".google.protobuf.Empty": {"type": "object"},
    ".google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
}


def components(image: Image, used: Json) -> Json:
    """Schemas of all messages and enums that `used` refers to, and of those that these refer to, by name."""
    found: Json = {}
    waiting = _names(used)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = definition(image, _full_name(image, name))
            waiting |= _names(found[name])
    return dict(sorted(found.items()))


def _names(used: Json) -> set[str]:
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(used)))


def _full_name(image: Image, name: str) -> str:
    ours = f".rigmesh.v1.{name}"
    return ours if ours in image.messages or ours in image.enums else f".{name}"


def _short_name(full_name: str) -> str:
    """ ".rigmesh.v1.Run.Status" → "Run.Status"; other packages keep theirs."""
    return full_name.removeprefix(".").removeprefix("rigmesh.v1.")


def reference(full_name: str) -> Json:
    """What stands for a message or enum where it is used."""
    return _WELL_KNOWN.get(full_name) or {"$ref": f"#/components/schemas/{_short_name(full_name)}"}


def field_schema(image: Image, field: FieldDescriptorProto, comment: str) -> Json:
    """The schema of one field: its type, its limits, its comment."""
    rules = field.options.Extensions[validate_pb2.field]
    schema = _container(image, field, rules)
    behaviors = field.options.Extensions[field_behavior_pb2.field_behavior]
    if FieldBehavior.OUTPUT_ONLY in behaviors:
        schema["readOnly"] = True
    if FieldBehavior.INPUT_ONLY in behaviors:
        schema["writeOnly"] = True
    if comment:
        schema["description"] = comment
    return schema


def is_required(field: FieldDescriptorProto) -> bool:
    return FieldBehavior.REQUIRED in field.options.Extensions[field_behavior_pb2.field_behavior]


def _container(image: Image, field: FieldDescriptorProto, rules: validate_pb2.FieldRules) -> Json:
    entry = image.map_entry(field)
    if entry is not None:
        return _map(entry, rules.map)
    single = _limited(field, rules.repeated.items if _is_repeated(field) else rules)
    return _list(single, rules.repeated) if _is_repeated(field) else single


def _is_repeated(field: FieldDescriptorProto) -> bool:
    return field.label == FieldDescriptorProto.LABEL_REPEATED


def _list(items: Json, rules: validate_pb2.RepeatedRules) -> Json:
    limits = {"minItems": rules.min_items, "maxItems": rules.max_items, "uniqueItems": rules.unique}
    return {"type": "array", "items": items} | {key: value for key, value in limits.items() if value}


def _map(entry: DescriptorProto, rules: validate_pb2.MapRules) -> Json:
    key, value = entry.field
    schema: Json = {"type": "object", "additionalProperties": _limited(value, rules.values)}
    if rules.max_pairs:
        schema["maxProperties"] = rules.max_pairs
    names = _limited(key, rules.keys)
    if "pattern" in names:
        schema["propertyNames"] = {"pattern": names["pattern"]}
    return schema


def _limited(field: FieldDescriptorProto, rules: validate_pb2.FieldRules) -> Json:
    if field.type_name:
        return dict(reference(field.type_name))
    schema = dict(_SCALARS[field.type])
    kind = rules.WhichOneof("type")
    if kind == "string":
        schema |= _string_limits(rules)
    elif kind in {"double", "float"} and getattr(rules, kind).finite:
        schema = {"type": "number", "format": "double"}
    elif kind is not None and schema.get("type") == "integer":
        schema |= _range(getattr(rules, kind))
    return schema


def _string_limits(rules: validate_pb2.FieldRules) -> Json:
    text = rules.string
    limits: Json = {}
    if text.min_len:
        limits["minLength"] = text.min_len
    if text.max_len:
        limits["maxLength"] = text.max_len
    if text.pattern:
        limits["pattern"] = text.pattern
    form = next((form for form in ("uuid", "email", "uri") if getattr(text, form)), None)
    if form is None:
        return limits
    # An empty text passes where a rule is not looked at for zero values, so a bare format would refuse too much.
    if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        return limits | {"anyOf": [{"format": form}, {"maxLength": 0}]}
    return limits | {"format": form}


def _range(rules: Any) -> Json:
    names = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
    return {name: getattr(rules, rule) for rule, name in names.items() if rules.HasField(rule)}


def definition(image: Image, full_name: str) -> Json:
    """The schema of a message or enum, by its full name with a leading dot."""
    comment = image.comment(full_name)
    described = {"description": comment} if comment else {}
    enum = image.enums.get(full_name)
    if enum is not None:
        return _enum(image, full_name, enum)
    message = image.messages[full_name]
    properties = {
        field.name: field_schema(image, field, image.comment(f"{full_name}.{field.name}")) for field in message.field
    }
    required = [field.name for field in message.field if is_required(field)]
    schema = {"type": "object", "properties": properties, **described}
    return schema | ({"required": required} if required else {}) | _oneofs(message)


def _enum(image: Image, full_name: str, enum: EnumDescriptorProto) -> Json:
    lines = [image.comment(full_name)]
    lines += [f"- `{value.name}`: {image.comment(f'{full_name}.{value.name}')}" for value in enum.value]
    return {"type": "string", "enum": [value.name for value in enum.value], "description": "\n".join(lines).strip()}


def _oneofs(message: DescriptorProto) -> Json:
    """Oneofs of which one field must be set. That at most one may be is left to the server."""
    groups = [_members(message, index) for index, oneof in enumerate(message.oneof_decl) if _must_be_set(oneof)]
    choices = [{"oneOf": [{"required": [name]} for name in names]} for names in groups]
    return {"allOf": choices} if choices else {}


def _must_be_set(oneof: OneofDescriptorProto) -> bool:
    return oneof.options.Extensions[validate_pb2.oneof].required


def _members(message: DescriptorProto, index: int) -> list[str]:
    return [field.name for field in message.field if field.HasField("oneof_index") and field.oneof_index == index]
