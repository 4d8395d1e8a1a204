"""Which samples a read is about, and which of them the caller may see.

A sample is seen by the members of its project: its session's project, or its sensor's primary project outside of
sessions. `session_channels` has a row for each (channel, session) that holds samples, written in the transaction of the
samples, so it decides without a look at the blocks.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from psycopg.rows import class_row

from rigmesh.v1.error_reason_pb2 import LIMIT_EXCEEDED
from services.db.pool import Connection
from services.errors import ResourceExhausted, invalid_field, not_found

MAX_CHANNELS = 256


class Selector(Protocol):
    """The fields that every read request has. `channels` are "sensor_id/signal"."""

    @property
    def channels(self) -> Sequence[str]: ...
    @property
    def capture_session_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...


@dataclass(frozen=True)
class SelectedChannel:
    """A channel with its visible sessions; None among them stands for samples outside of any."""

    channel_id: int
    channel: str
    sensor_id: str
    signal: str
    unit: str
    max_span_ns: int
    sessions: list[str | None]


async def select_channels(db: Connection, user_id: str, request: Selector) -> list[SelectedChannel]:
    """The channels of a request in its order, else by name.

    InvalidArgument when nothing is named, or a channel twice; NotFound for a channel that is absent or of no project of
    the caller; ResourceExhausted above MAX_CHANNELS.
    """
    names = _names(request)
    if not (names or request.capture_session_id or request.run_id):
        raise invalid_field("channels", "name channels, a capture_session_id or a run_id")
    if len(set(names)) < len(names):
        raise invalid_field("channels", "must not name a channel twice")
    found = await _query(db, user_id, request, names)
    if len(found) > MAX_CHANNELS:
        text = f"more than {MAX_CHANNELS} channels: name some of them"
        raise ResourceExhausted(LIMIT_EXCEEDED, text, metadata={"limit": "channels", "max": str(MAX_CHANNELS)})
    if not names:
        return found
    by_name = {channel.channel: channel for channel in found}
    for name in names:
        if name not in by_name:
            raise not_found("channel", name)
    return [by_name[name] for name in names]


async def selected_among(db: Connection, request: Selector, channel_ids: Collection[int]) -> set[int]:
    """Those of some channels that a request is about, whether the caller may see them or not: a cheap look."""
    names = _names(request)
    cursor = await db.execute(
        """SELECT channel_id FROM channels c WHERE channel_id = ANY(%(ids)s)
            AND (cardinality(%(sensors)s::uuid[]) = 0
                OR (sensor_id, signal) IN (SELECT * FROM unnest(%(sensors)s::uuid[], %(signals)s::text[])))
            AND ((%(session)s::uuid IS NULL AND %(run)s::uuid IS NULL) OR EXISTS (
                SELECT FROM session_channels t JOIN capture_sessions s USING (capture_session_id)
                WHERE t.channel_id = c.channel_id
                    AND (%(session)s::uuid IS NULL OR t.capture_session_id = %(session)s)
                    AND (%(run)s::uuid IS NULL OR s.run_id = %(run)s)))""",
        {"ids": list(channel_ids), **_parameters(request, names)},
    )
    return {row[0] async for row in cursor}


def _names(request: Selector) -> list[str]:
    return [name.lower()[:36] + name[36:] for name in request.channels]


def _parameters(request: Selector, names: list[str]) -> dict[str, object]:
    return {
        "session": request.capture_session_id or None,
        "run": request.run_id or None,
        "sensors": [name[:36] for name in names],
        "signals": [name[37:] for name in names],
    }


async def _query(db: Connection, user_id: str, request: Selector, names: list[str]) -> list[SelectedChannel]:
    async with db.cursor(row_factory=class_row(SelectedChannel)) as cursor:
        await cursor.execute(
            """SELECT * FROM (
                SELECT c.channel_id, c.sensor_id || '/' || c.signal AS channel, c.sensor_id, c.signal, c.unit,
                    c.max_span_ns, ARRAY(
                        SELECT t.capture_session_id::text FROM session_channels t
                        LEFT JOIN capture_sessions s USING (capture_session_id)
                        JOIN project_members m ON m.user_id = %(user)s
                            AND m.project_id = coalesce(s.project_id, n.primary_project_id)
                        WHERE t.channel_id = c.channel_id
                            AND (%(session)s::uuid IS NULL OR t.capture_session_id = %(session)s)
                            AND (%(run)s::uuid IS NULL OR s.run_id = %(run)s)
                    ) AS sessions
                FROM channels c JOIN sensors n USING (sensor_id)
                WHERE CASE WHEN cardinality(%(sensors)s::uuid[]) > 0
                    THEN (c.sensor_id, c.signal) IN (SELECT * FROM unnest(%(sensors)s::uuid[], %(signals)s::text[]))
                    ELSE EXISTS (
                        SELECT FROM session_channels t JOIN capture_sessions s USING (capture_session_id)
                        WHERE t.channel_id = c.channel_id
                            AND (s.run_id = %(run)s OR s.capture_session_id = %(session)s))
                    END
                    AND EXISTS (SELECT FROM sensor_projects JOIN project_members m USING (project_id)
                                WHERE sensor_id = c.sensor_id AND m.user_id = %(user)s)
            ) q WHERE cardinality(sessions) > 0 OR cardinality(%(sensors)s::uuid[]) > 0
            ORDER BY channel LIMIT %(limit)s""",
            {"user": user_id, "limit": MAX_CHANNELS + 1, **_parameters(request, names)},
        )
        return await cursor.fetchall()
