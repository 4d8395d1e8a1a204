"""GetLatest: the newest sample of a channel by measured time, and the last one received."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from psycopg import sql

from rigmesh.v1.telemetry_pb2 import LatestSample, Sample
from services.db.pool import Connection
from services.telemetry.reads.merge import Piece
from services.telemetry.reads.physical import Conversion, Converter
from services.telemetry.reads.selection import SelectedChannel
from services.telemetry.reads.stored import Range, StoredBlock, condition, fetch_blocks


async def latest_sample(db: Connection, channel: SelectedChannel, converter: Converter) -> LatestSample | None:
    """Both samples of a channel, or None where it has none that the caller may see."""
    where, parameters = condition(channel, Range())
    cursor = await db.execute(
        """SELECT max(last_at), (array_agg(last_placed_at ORDER BY last_received_at DESC))[1] FROM session_channels
        WHERE channel_id = %(channel)s AND (
            capture_session_id = ANY(%(sessions)s::uuid[]) OR (capture_session_id IS NULL AND %(outside)s))""",
        parameters,
    )
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return None
    newest = await _ending_at(db, where, parameters, channel, row[0])
    conversion, sample = _last(newest, converter)
    _, received = _last(await _received_at(db, where, parameters, row[1]), converter)
    return LatestSample(
        channel=channel.channel,
        unit=conversion.unit,
        conversion_profile_id=conversion.conversion_profile_id,
        newest=sample,
        last_received=received,
    )


async def _ending_at(
    db: Connection, where: sql.SQL, parameters: dict[str, object], channel: SelectedChannel, last_at: datetime
) -> Sequence[StoredBlock]:
    """The blocks that hold the newest time: it is known to a microsecond, rounded up."""
    narrow = sql.SQL(
        """{} AND placed_at <= %(last_at)s AND placed_at >= %(last_at)s - (%(span_us)s + 2) * interval '1 microsecond'
        AND placed_at + (span_ns / 1000 + 2) * interval '1 microsecond' >= %(last_at)s"""
    ).format(where)
    return await fetch_blocks(db, narrow, parameters | {"last_at": last_at, "span_us": channel.max_span_ns // 1000})


async def _received_at(
    db: Connection, where: sql.SQL, parameters: dict[str, object], placed_at: datetime
) -> Sequence[StoredBlock]:
    """The block at a place that was received last."""
    narrow = sql.SQL("{} AND placed_at = %(placed_at)s").format(where)
    blocks = await fetch_blocks(db, narrow, parameters | {"placed_at": placed_at})
    return [max(blocks, key=lambda block: (block.received_at, block.lane_id, block.seq, block.part))]


def _last(blocks: Sequence[StoredBlock], converter: Converter) -> tuple[Conversion, Sample]:
    """The newest sample of a few blocks: of several at one time the one that `merge` puts last."""
    newest_ns = max(int(block.time_ns.max()) for block in blocks)
    holding = [block for block in blocks if newest_ns in block.time_ns]
    block = max(holding, key=lambda block: (block.clock_id, block.lane_id, block.seq, block.part))
    at = np.flatnonzero(block.time_ns == newest_ns)[-1:]
    last = Piece(block.time_ns[at], block.values[at], block.capture_session_id, block.late)
    ((conversion, converted),) = converter.convert(last)
    value = converted.values[0].item()
    sample = Sample(time_ns=newest_ns, capture_session_id=block.capture_session_id or "")
    sample.received_at.FromDatetime(block.received_at)
    if isinstance(value, int):
        sample.integer = value
    else:
        sample.number = value
    return conversion, sample
