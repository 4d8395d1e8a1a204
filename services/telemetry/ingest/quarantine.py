"""What could not be stored, kept with its bytes by (lane, seq): a repeated batch gets the same verdict."""

from collections.abc import Sequence
from datetime import UTC, datetime

from uuid_utils import uuid7

from rigmesh.v1.error_reason_pb2 import ErrorReason
from services.db.pool import Connection
from services.telemetry.ingest.batches import Pending, Refusal


async def keep(db: Connection, batch: Pending, refusals: Sequence[Refusal]) -> tuple[tuple[Refusal, str], ...]:
    """Stores refusals of a batch; returns each with its quarantine_id. One that is kept already keeps its id."""
    if not refusals:
        return ()
    ids = list[str]()
    async with db.cursor() as cursor:
        await cursor.executemany(
            """INSERT INTO quarantine AS q (quarantine_id, lane_id, seq, part, alias, sensor_id, signal, unit,
                capture_session_id, clock_id, device_sent_ns, received_at, samples, reason, message, payload)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (lane_id, seq, part, reason) DO UPDATE SET reason = q.reason RETURNING quarantine_id""",
            [_row(batch, refusal) for refusal in refusals],
            returning=True,
        )
        more: bool | None = True
        while more:
            row = await cursor.fetchone()
            assert row is not None
            ids.append(str(row[0]))
            more = cursor.nextset()
    return tuple(zip(refusals, ids, strict=True))


async def recall(db: Connection, batch: Pending) -> tuple[tuple[Refusal, str], ...]:
    """The refusals of a batch that came before."""
    cursor = await db.execute(
        """SELECT reason, message, part, alias, quarantine_id FROM quarantine
        WHERE lane_id = %s AND seq = %s AND reason <> 'EPOCH_REUSED' ORDER BY part""",
        (batch.lane_id, batch.seq),
    )
    return tuple(
        [
            (Refusal(ErrorReason.Value(reason), message, 0, b"", part, alias), quarantine_id)
            async for reason, message, part, alias, quarantine_id in cursor
        ]
    )


def _row(batch: Pending, refusal: Refusal) -> tuple[object, ...]:
    return (
        str(uuid7()),
        batch.lane_id,
        batch.seq,
        refusal.part,
        refusal.alias,
        refusal.sensor_id or None,
        refusal.signal,
        refusal.unit,
        refusal.capture_session_id or None,
        batch.clock_id,
        batch.device_sent_ns,
        datetime.fromtimestamp(batch.received_ns / 1e9, UTC),
        refusal.samples,
        ErrorReason.Name(refusal.reason),
        refusal.message,
        refusal.payload,
    )
