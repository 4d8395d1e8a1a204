"""What could not be stored, kept with its bytes by (lane, seq): a repeated batch gets the same verdict."""

from collections.abc import Sequence
from datetime import UTC, datetime

from uuid_utils import uuid7

from rigmesh.v1.error_reason_pb2 import ErrorReason
from services.db.pool import Connection
from services.telemetry.batches import Pending, Refusal


async def keep(db: Connection, batch: Pending, refusals: Sequence[Refusal]) -> tuple[tuple[Refusal, str], ...]:
    """Stores refusals of a batch; returns each with its quarantine_id. One that is kept already keeps its id."""
    return tuple([(refusal, await _insert(db, batch, refusal)) for refusal in refusals])


async def recall(db: Connection, batch: Pending) -> tuple[tuple[Refusal, str], ...]:
    """The refusals of a batch that came before."""
    cursor = await db.execute(
        """SELECT reason, message, alias, quarantine_id FROM quarantine
        WHERE lane_id = %s AND seq = %s AND reason <> 'EPOCH_REUSED' ORDER BY quarantine_id""",
        (batch.lane_id, batch.seq),
    )
    return tuple(
        [
            (Refusal(ErrorReason.Value(reason), message, 0, b"", alias), quarantine_id)
            async for reason, message, alias, quarantine_id in cursor
        ]
    )


async def _insert(db: Connection, batch: Pending, refusal: Refusal) -> str:
    channel = refusal.channel
    cursor = await db.execute(
        """INSERT INTO quarantine AS q (quarantine_id, lane_id, seq, alias, sensor_id, signal, unit, capture_session_id,
            clock_id, device_sent_ns, received_at, samples, reason, message, permanent, payload)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, true, %s)
        ON CONFLICT (lane_id, seq, alias, reason) DO UPDATE SET reason = q.reason RETURNING quarantine_id""",
        (
            str(uuid7()),
            batch.lane_id,
            batch.seq,
            refusal.alias,
            channel.sensor_id if channel else None,
            channel.signal if channel else "",
            channel.unit if channel else "",
            (channel.capture_session_id or None) if channel else None,
            batch.clock_id,
            batch.device_sent_ns,
            datetime.fromtimestamp(batch.received_ns / 1e9, UTC),
            refusal.samples,
            ErrorReason.Name(refusal.reason),
            refusal.message,
            refusal.payload,
        ),
    )
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])
