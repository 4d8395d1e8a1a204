"""Appends to `events` and `denied_attempts`: nothing else writes there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb
from uuid_utils import uuid7

from services.db.pool import Connection


@dataclass(frozen=True)
class Event:
    """A row of `events`; `before` and `after` are JSON objects."""

    project_id: str | None
    type: str
    resource: str
    resource_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


async def append(db: Connection, events: Sequence[Event], actor: str, request_id: str) -> None:
    """Writes events in the transaction of the change that they tell of."""
    rows = [
        (
            str(uuid7()),
            event.project_id,
            event.type,
            event.resource,
            event.resource_id,
            actor,
            request_id,
            None if event.before is None else Jsonb(event.before),
            None if event.after is None else Jsonb(event.after),
        )
        for event in events
    ]
    async with db.cursor() as cursor:
        await cursor.executemany(
            """INSERT INTO events (event_id, project_id, type, resource, resource_id, actor, request_id, before, after)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            rows,
        )


async def append_denied(
    db: Connection, *, actor: str, method: str, reason: str, resource_id: str, request_id: str
) -> None:
    """Writes an attempt that rights did not allow."""
    await db.execute(
        """INSERT INTO denied_attempts (actor, method, reason, resource_id, request_id)
        VALUES (%s, %s, %s, %s, %s)""",
        (actor, method, reason, resource_id, request_id),
    )
