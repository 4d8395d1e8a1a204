"""Resolves what a client binds: sensors, sessions and channels behind the names that it uses."""

from collections.abc import Sequence
from dataclasses import dataclass

from rigmesh.v1.error_reason_pb2 import (
    AMBIGUOUS_SESSION,
    SENSOR_NOT_ATTACHED,
    SENSOR_NOT_FOUND,
    SESSION_REQUIRED,
    TOO_MANY_CHANNELS,
    ErrorReason,
)
from rigmesh.v1.telemetry_ingest_pb2 import ChannelBinding
from services.db.pool import Connection
from services.errors import not_found
from services.rpc.call import Kind, Principal
from services.telemetry.ingest.batches import Channel

MAX_CHANNELS = 4096


@dataclass(frozen=True)
class Scope:
    """What a credential may write to: one sensor, or the sensors of one project."""

    kind: str
    scope_id: str

    @property
    def project_id(self) -> str | None:
        return self.scope_id if self.kind == "PROJECT" else None


class BindingError(Exception):
    """One binding that is refused; the others stand. `running` names the sessions where there are several."""

    def __init__(self, reason: ErrorReason.ValueType, message: str, running: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reason, self.message, self.running = reason, message, running


def scope_of(principal: Principal) -> Scope:
    """The scope of a sensor token or an INGEST token."""
    if principal.kind is Kind.SENSOR:
        return Scope("SENSOR", principal.sensor_id)
    return Scope("PROJECT", principal.project_id)


async def check_session(db: Connection, scope: Scope, capture_session_id: str) -> None:
    """NotFound unless the session lies in a project that the scope reaches."""
    cursor = await db.execute(
        """SELECT FROM capture_sessions s WHERE capture_session_id = %(session)s AND (
            s.project_id = %(scope)s
            OR s.project_id IN (SELECT project_id FROM sensor_projects WHERE sensor_id = %(scope)s))""",
        {"session": capture_session_id, "scope": scope.scope_id},
    )
    if cursor.rowcount == 0:
        raise not_found("capture_session", capture_session_id)


async def bind(db: Connection, scope: Scope, capture_session_id: str, binding: ChannelBinding) -> Channel:
    """The channel behind a binding, made when it is new. Raises BindingError."""
    sensor_id = binding.sensor_id or (scope.scope_id if scope.kind == "SENSOR" else "")
    primary = await _primary_project(db, scope, sensor_id)
    if capture_session_id:
        await _check_attached(db, sensor_id, capture_session_id)
        session = capture_session_id
    else:
        session = await _running_session(db, scope, sensor_id)
        if not session and scope.project_id not in (None, primary):
            raise BindingError(SESSION_REQUIRED, "without a session the samples would belong to another project")
    return await _channel(db, sensor_id, session, binding)


async def _primary_project(db: Connection, scope: Scope, sensor_id: str) -> str:
    cursor = await db.execute(
        """SELECT primary_project_id FROM sensors s WHERE sensor_id = %(sensor)s AND (
            s.sensor_id = %(scope)s
            OR EXISTS (SELECT FROM sensor_projects p WHERE p.sensor_id = s.sensor_id AND p.project_id = %(scope)s))""",
        {"sensor": sensor_id or None, "scope": scope.scope_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise BindingError(SENSOR_NOT_FOUND, "no such sensor for this token")
    return str(row[0])


async def _check_attached(db: Connection, sensor_id: str, capture_session_id: str) -> None:
    cursor = await db.execute(
        """SELECT FROM run_sensors JOIN capture_sessions USING (run_id)
        WHERE sensor_id = %s AND capture_session_id = %s""",
        (sensor_id, capture_session_id),
    )
    if cursor.rowcount == 0:
        raise BindingError(SENSOR_NOT_ATTACHED, "the sensor is not attached to the session's run")


async def _running_session(db: Connection, scope: Scope, sensor_id: str) -> str:
    cursor = await db.execute(
        """SELECT capture_session_id FROM capture_sessions s JOIN run_sensors USING (run_id)
        WHERE sensor_id = %s AND s.status = 'RUNNING' AND coalesce(s.project_id = %s, true)
        ORDER BY capture_session_id LIMIT 17""",
        (sensor_id, scope.project_id),
    )
    running = [row[0] async for row in cursor]
    if len(running) > 1:
        raise BindingError(AMBIGUOUS_SESSION, "several sessions are running: name one in Open", running)
    return running[0] if running else ""


async def _channel(db: Connection, sensor_id: str, session: str, binding: ChannelBinding) -> Channel:
    await _check_channel_count(db, sensor_id, binding.signal)
    await db.execute(
        """INSERT INTO channels AS c (sensor_id, signal, unit, period_ns)
        VALUES (%(sensor)s, %(signal)s, %(unit)s, %(period)s)
        ON CONFLICT (sensor_id, signal) DO UPDATE SET
            unit = coalesce(nullif(excluded.unit, ''), c.unit),
            period_ns = coalesce(nullif(excluded.period_ns, 0), c.period_ns)
        WHERE excluded.unit NOT IN ('', c.unit) OR excluded.period_ns NOT IN (0, c.period_ns)""",
        {"sensor": sensor_id, "signal": binding.signal, "unit": binding.unit, "period": binding.period_ns},
    )
    cursor = await db.execute(
        """SELECT channel_id, unit, value_type, coalesce(
                (SELECT conversion_profile_id FROM session_profiles
                 WHERE capture_session_id = %s AND session_profiles.sensor_id = c.sensor_id),
                (SELECT conversion_profile_id FROM channel_profiles p
                 WHERE p.channel_id = c.channel_id AND valid @> now() ORDER BY channel_profile_id DESC LIMIT 1))
        FROM channels c WHERE sensor_id = %s AND signal = %s""",
        (session or None, sensor_id, binding.signal),
    )
    row = await cursor.fetchone()
    assert row is not None
    channel_id, unit, value_type, profile_id = row
    return Channel(binding.alias, channel_id, sensor_id, binding.signal, unit, session, profile_id or "", value_type)


async def _check_channel_count(db: Connection, sensor_id: str, signal: str) -> None:
    cursor = await db.execute(
        """SELECT count(*) FROM channels WHERE sensor_id = %s
        HAVING count(*) >= %s AND NOT bool_or(signal = %s)""",
        (sensor_id, MAX_CHANNELS, signal),
    )
    if await cursor.fetchone() is not None:
        raise BindingError(TOO_MANY_CHANNELS, f"the sensor has {MAX_CHANNELS} channels already")


async def claim_value_type(db: Connection, channel_id: int, value_type: str) -> str:
    """Settles a channel's type by its first samples; returns the type that holds, which another stream may have set."""
    await db.execute(
        "UPDATE channels SET value_type = %s WHERE channel_id = %s AND value_type IS NULL", (value_type, channel_id)
    )
    cursor = await db.execute("SELECT value_type FROM channels WHERE channel_id = %s", (channel_id,))
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])
