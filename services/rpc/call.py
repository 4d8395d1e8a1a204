"""What a handler gets beside its request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.db.events import Event
from services.db.pool import Connection, Pools
from services.instance_key import derive


class Kind(Enum):
    ANONYMOUS = "anonymous"
    SESSION = "session"
    API_TOKEN = "api_token"  # noqa: S105
    SENSOR = "sensor"


@dataclass(frozen=True)
class Principal:
    """Who calls. `credential_id` names the session or token; ids that do not apply are empty."""

    kind: Kind
    credential_id: str = ""
    user_id: str = ""
    is_admin: bool = False
    scopes: frozenset[str] = frozenset()
    sensor_id: str = ""
    project_id: str = ""
    expires_at: datetime | None = None
    """When an API token stops working; None = never, or not a token."""

    @property
    def name(self) -> str:
        """How logs, events and idempotency keys name the caller: "user:…", "sensor:…" or "anonymous"."""
        if self.user_id:
            return f"user:{self.user_id}"
        return f"sensor:{self.sensor_id}" if self.sensor_id else "anonymous"


@dataclass
class Call:
    """One call in progress. `db` is its open transaction; streams have `pools` only and open their own."""

    principal: Principal
    request_id: str
    audit: str
    instance_key: bytes
    pools: Pools
    address: str = ""
    """Where the caller is: an IP address, or what the transport calls it."""
    open_db: Connection | None = None
    events: list[Event] = field(default_factory=list)
    response_headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def db(self) -> Connection:
        assert self.open_db is not None, "a stream opens its own transactions from call.pools"
        return self.open_db

    def key(self, purpose: str) -> bytes:
        """A 32-byte key of this instance for one purpose."""
        return derive(self.instance_key, purpose)

    def emit(
        self,
        resource: str,
        resource_id: str,
        *,
        project_id: str | None = None,
        before: Message | None = None,
        after: Message | None = None,
        type: str | None = None,
    ) -> None:
        """Records what this call changes; written in its transaction. `type` defaults to the RPC's audit verb."""
        self.events.append(
            Event(project_id, type or self.audit, resource, resource_id, _as_json(before), _as_json(after))
        )


def _as_json(message: Message | None) -> dict[str, Any] | None:
    if message is None:
        return None
    shown = type(message)()
    shown.CopyFrom(message)
    _redact(shown)
    content: dict[str, Any] = MessageToDict(shown, preserving_proto_field_name=True)
    return content


def _redact(message: Message) -> None:
    """Clears what the contract marks `debug_redact`, at any depth: secrets, shown once to the caller and never kept."""
    for described, value in message.ListFields():
        if described.GetOptions().debug_redact:
            message.ClearField(described.name)
        elif described.type == described.TYPE_MESSAGE:
            parts = value.values() if isinstance(value, Mapping) else value if described.is_repeated else (value,)
            for part in parts:
                if isinstance(part, Message):
                    _redact(part)
