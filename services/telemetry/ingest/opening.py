"""Opens lanes: hands out epochs, fences older streams, and tells what is durable already."""

from dataclasses import dataclass

from rigmesh.v1.error_reason_pb2 import UNKNOWN_EPOCH
from rigmesh.v1.telemetry_ingest_pb2 import Clock, SeqRange
from services.db.pool import Connection
from services.errors import FailedPrecondition, not_found
from services.telemetry.ingest.channels import Scope
from services.telemetry.ingest.lanes import Ranges, from_multirange


@dataclass(frozen=True)
class OpenedLane:
    """A lane as opened: `received` is what need not be sent again; `holder` counts the streams that opened it."""

    lane_id: int
    epoch: int
    holder: int
    received: Ranges


async def open_lane(db: Connection, scope: Scope, producer: str, epoch: int) -> OpenedLane:
    """Resumes an epoch, or with 0 begins a new one; from its commit on only this opening may write.

    Raises FailedPrecondition UNKNOWN_EPOCH for an epoch that was never given out.
    """
    if epoch == 0:
        return await _new_lane(db, scope, producer)
    cursor = await db.execute(
        """UPDATE ingest_lanes SET holder = holder + 1
        WHERE scope = %s AND scope_id = %s AND kind = 'STREAM' AND producer = %s AND epoch = %s
        RETURNING lane_id, epoch, holder, received::text""",
        (scope.kind, scope.scope_id, producer, epoch),
    )
    row = await cursor.fetchone()
    if row is None:
        newest = await _newest_epoch(db, scope, producer)
        raise FailedPrecondition(
            UNKNOWN_EPOCH,
            "this epoch was never given out; open with 0 for a new one",
            metadata={"epoch": str(epoch), "newest": str(newest)},
        )
    return OpenedLane(row[0], row[1], row[2], from_multirange(row[3]))


async def upload_lane(db: Connection, scope: Scope, upload_id: str) -> OpenedLane:
    """The lane of an upload: epoch 1, made by its first part. Parts come in any order, so nobody holds it."""
    await db.execute(
        """INSERT INTO ingest_lanes (scope, scope_id, kind, producer, epoch) VALUES (%s, %s, 'UPLOAD', %s, 1)
        ON CONFLICT (scope, scope_id, kind, producer, epoch) DO NOTHING""",
        (scope.kind, scope.scope_id, upload_id),
    )
    return await find_lane(db, scope, "UPLOAD", upload_id, 1)


async def find_lane(db: Connection, scope: Scope, kind: str, name: str, epoch: int) -> OpenedLane:
    """A lane as it stands, by the producer of a STREAM or the id of an UPLOAD; epoch 0 = the newest. NotFound."""
    cursor = await db.execute(
        """SELECT lane_id, epoch, holder, received::text FROM ingest_lanes
        WHERE scope = %s AND scope_id = %s AND kind = %s AND producer = %s AND (epoch = %s OR %s = 0)
        ORDER BY epoch DESC LIMIT 1""",
        (scope.kind, scope.scope_id, kind, name, epoch, epoch),
    )
    row = await cursor.fetchone()
    if row is None:
        raise not_found("lane", name)
    return OpenedLane(row[0], row[1], row[2], from_multirange(row[3]))


async def open_clock(db: Connection, scope: Scope, producer: str, boot_id: str, kind: Clock.Kind.ValueType) -> int:
    """The clock_id of one boot of a producer."""
    values = (scope.kind, scope.scope_id, producer, boot_id, Clock.Kind.Name(kind or Clock.WALL))
    await db.execute(
        """INSERT INTO clocks (scope, scope_id, producer, boot_id, kind) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (scope, scope_id, producer, boot_id, kind) DO NOTHING""",
        values,
    )
    cursor = await db.execute(
        """SELECT clock_id FROM clocks
        WHERE scope = %s AND scope_id = %s AND producer = %s AND boot_id = %s AND kind = %s""",
        values,
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


def seq_ranges(ranges: Ranges) -> list[SeqRange]:
    """As the contract writes them: both ends included."""
    return [SeqRange(first=first, last=after - 1) for first, after in ranges]


async def _new_lane(db: Connection, scope: Scope, producer: str) -> OpenedLane:
    # Two that ask at once must not get one epoch: the lock is on the producer's name, until the end of the transaction.
    name = f"{scope.kind}|{scope.scope_id}|{producer}"
    await db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))
    epoch = await _newest_epoch(db, scope, producer) + 1
    cursor = await db.execute(
        """INSERT INTO ingest_lanes (scope, scope_id, kind, producer, epoch, holder)
        VALUES (%s, %s, 'STREAM', %s, %s, 1) RETURNING lane_id""",
        (scope.kind, scope.scope_id, producer, epoch),
    )
    row = await cursor.fetchone()
    assert row is not None
    return OpenedLane(row[0], epoch, 1, [])


async def _newest_epoch(db: Connection, scope: Scope, producer: str) -> int:
    cursor = await db.execute(
        """SELECT coalesce(max(epoch), 0) FROM ingest_lanes
        WHERE scope = %s AND scope_id = %s AND kind = 'STREAM' AND producer = %s""",
        (scope.kind, scope.scope_id, producer),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
