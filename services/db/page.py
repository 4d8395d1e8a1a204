"""Keyset paging: a page token is the last row's key, bound by HMAC to the instance and to the request's filters."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from rigmesh.v1.error_reason_pb2 import INVALID_PAGE_TOKEN
from services.errors import InvalidArgument

DEFAULT_SIZE, MAX_SIZE = 50, 1000
MAX_BYTES = 3 * 1024 * 1024
_MAC_BYTES = 16
Row = TypeVar("Row", bound=Message)


@dataclass(frozen=True)
class Page:
    """One page of a list. `after` is the key of the last row before it, None for the first page."""

    size: int
    after: Any
    _key: bytes
    _filters: bytes

    @property
    def limit(self) -> int:
        """Rows to ask for: one more than the page holds tells whether there is a next one."""
        return self.size + 1

    def cut(self, rows: Sequence[Row], key_of: Callable[[Row], Any]) -> tuple[list[Row], str]:
        """The rows of this page and its next_page_token. A page ends early at 3 MiB."""
        held, size = list[Row](), 0
        for row in rows[: self.size]:
            size += row.ByteSize()
            if held and size > MAX_BYTES:
                break
            held.append(row)
        more = len(held) < len(rows)
        return held, seal(self._key, self._filters, key_of(held[-1])) if more else ""


def open_page(request: Any, key: bytes) -> Page:
    """The page that a List request asks for. InvalidArgument for a token of another request or instance."""
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_token")
    filters.ClearField("page_size")
    # With the name: requests of two RPCs can have the same bytes, but their keys mean different things.
    bound = request.DESCRIPTOR.full_name.encode() + b"|" + filters.SerializeToString(deterministic=True)
    digest = hashlib.sha256(bound).digest()
    after = unseal(key, digest, request.page_token) if request.page_token else None
    return Page(min(request.page_size or DEFAULT_SIZE, MAX_SIZE), after, key, digest)


def seal(key: bytes, filters: bytes, last: Any) -> str:
    """An opaque token that carries `last` (JSON) and is good only together with `filters`."""
    payload = json.dumps(last).encode()
    return base64.urlsafe_b64encode(_mac(key, filters, payload) + payload).decode().rstrip("=")


def unseal(key: bytes, filters: bytes, token: str) -> Any:
    """What `seal` was given. InvalidArgument for a token that it did not make with this key and these filters."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    payload = data[_MAC_BYTES:]
    if not hmac.compare_digest(data[:_MAC_BYTES], _mac(key, filters, payload)):
        raise InvalidArgument(INVALID_PAGE_TOKEN, "the token was not given out for this request")
    return json.loads(payload)


def _mac(key: bytes, filters: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, filters + payload, "sha256")[:_MAC_BYTES]
