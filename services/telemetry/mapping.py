"""Which profile version holds for a channel, and from when: rows of `channel_profiles`, the newest of which wins."""

from collections.abc import Collection

from services.db.pool import Connection


async def map_profile(
    db: Connection, sensor_id: str, signals: Collection[str], conversion_profile_id: str, applied_by: str
) -> None:
    """Lets a profile version hold for signals of its sensor from now on; for a channel that had none, for all its time.

    The version may have no conversion for a signal: then its values are read as they were sent, from now on.
    """
    # In order, as concurrent transactions that make the same channels would lock each other out otherwise.
    await db.execute(
        """INSERT INTO channels (sensor_id, signal) SELECT %s, signal FROM unnest(%s::text[]) AS given (signal)
        ORDER BY signal ON CONFLICT (sensor_id, signal) DO NOTHING""",
        (sensor_id, list(signals)),
    )
    await db.execute(
        """INSERT INTO channel_profiles (channel_id, conversion_profile_id, valid, applied_by)
        SELECT channel_id, %(conversion_profile_id)s, tstzrange(
            CASE WHEN EXISTS (SELECT FROM channel_profiles p WHERE p.channel_id = c.channel_id)
            THEN statement_timestamp() END, NULL), %(applied_by)s
        FROM channels c WHERE sensor_id = %(sensor_id)s AND signal = ANY(%(signals)s) ORDER BY signal""",
        {
            "sensor_id": sensor_id,
            "signals": list(signals),
            "conversion_profile_id": conversion_profile_id,
            "applied_by": applied_by,
        },
    )
