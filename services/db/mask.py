"""Update masks: which top-level fields of a resource an Update takes."""

from collections.abc import Collection
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.errors import invalid_field


def masked_fields(resource: Message, mask: FieldMask, changeable: Collection[str]) -> list[str]:
    """Names of the fields to take from `resource`: those in the mask, or without a mask all that it sets.

    A field that is named and absent is taken too: it is cleared. InvalidArgument for a field that cannot be changed, a
    mask that names nothing, or a resource that sets nothing.
    """
    named = list(dict.fromkeys(mask.paths))
    fields = named or [field.name for field, _ in resource.ListFields() if field.name in changeable]
    unknown = [name for name in fields if name not in changeable]
    if unknown or not fields:
        raise invalid_field("update_mask", f"must name some of: {', '.join(sorted(changeable))}")
    return fields


def check_same_id(field: str, addressed: str, inside: Any) -> None:
    """InvalidArgument when the resource in the body names another id than the path. Absent is fine."""
    if inside and inside != addressed:
        raise invalid_field(field, "differs from the id in the path")
