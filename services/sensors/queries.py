"""SQL of sensors, their projects and their tokens."""

from datetime import timedelta

from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from uuid_utils import uuid7

from rigmesh.v1.sensor_pb2 import Sensor
from rigmesh.v1.sensor_service_pb2 import ListSensorsRequest
from services.db.page import Page
from services.db.pool import Connection
from services.errors import not_found
from services.rpc.tokens import Token

# Of a sensor's projects only those that the user %(user_id)s may see, the primary one first.
COLUMNS = """sensor_id, name, description, labels, created_at, updated_at,
    ARRAY(SELECT project_id FROM sensor_projects p JOIN project_members m USING (project_id)
        WHERE p.sensor_id = sensors.sensor_id AND m.user_id = %(user_id)s ORDER BY position) AS project_ids"""
LOCK = "FOR NO KEY UPDATE"


async def insert_sensor(db: Connection, user_id: str, sensor: Sensor) -> Sensor:
    """A new sensor in all its projects."""
    sensor_id = str(uuid7())
    await db.execute(
        """INSERT INTO sensors (sensor_id, primary_project_id, name, description, labels)
        VALUES (%s, %s, %s, %s, %s)""",
        (sensor_id, sensor.project_ids[0], sensor.name, sensor.description, Jsonb(dict(sensor.labels))),
    )
    # The contract compares texts, so it lets the same UUID pass in another case.
    await db.execute(
        """INSERT INTO sensor_projects (sensor_id, project_id, position)
        SELECT %s, project_id, position FROM unnest(%s::uuid[]) WITH ORDINALITY AS given (project_id, position)
        ON CONFLICT DO NOTHING""",
        (sensor_id, list(sensor.project_ids)),
    )
    return await select_sensor(db, user_id, sensor_id)


async def select_sensor(db: Connection, user_id: str, sensor_id: str, *, lock: bool = False) -> Sensor:
    """The sensor as the user sees it; locked: nobody else changes its tokens meanwhile. Raises NotFound."""
    async with db.cursor(row_factory=class_row(Sensor)) as cursor:
        await cursor.execute(
            f"SELECT {COLUMNS} FROM sensors WHERE sensor_id = %(sensor_id)s {LOCK if lock else ''}",
            {"user_id": user_id, "sensor_id": sensor_id},
        )
        sensor = await cursor.fetchone()
    if sensor is None:
        raise not_found("sensor", sensor_id)
    return sensor


async def select_sensors(db: Connection, user_id: str, request: ListSensorsRequest, page: Page) -> list[Sensor]:
    """Those that the user may see, newest first."""
    async with db.cursor(row_factory=class_row(Sensor)) as cursor:
        await cursor.execute(
            f"""SELECT {COLUMNS} FROM sensors
            WHERE EXISTS (SELECT FROM sensor_projects p JOIN project_members m USING (project_id)
                WHERE p.sensor_id = sensors.sensor_id AND m.user_id = %(user_id)s
                  AND (%(project_id)s::uuid IS NULL OR p.project_id = %(project_id)s))
              AND (%(after)s::uuid IS NULL OR sensor_id < %(after)s)
            ORDER BY sensor_id DESC LIMIT %(limit)s""",
            {
                "user_id": user_id,
                "project_id": request.project_id or None,
                "after": page.after,
                "limit": page.limit,
            },
        )
        return await cursor.fetchall()


async def touch_sensor(db: Connection, user_id: str, sensor_id: str) -> Sensor:
    """Notes a change that shows nowhere else in the sensor."""
    async with db.cursor(row_factory=class_row(Sensor)) as cursor:
        await cursor.execute(
            f"""UPDATE sensors SET updated_at = statement_timestamp() WHERE sensor_id = %(sensor_id)s
            RETURNING {COLUMNS}""",
            {"user_id": user_id, "sensor_id": sensor_id},
        )
        return await anext(cursor)


async def insert_token(db: Connection, sensor_id: str, token: Token) -> None:
    await db.execute(
        """INSERT INTO sensor_tokens (sensor_token_id, public_id, secret_hash, sensor_id, created_at)
        VALUES (%s, %s, %s, %s, statement_timestamp())""",
        (str(uuid7()), token.public_id, token.secret_hash, sensor_id),
    )


async def limit_tokens(db: Connection, sensor_id: str, overlap: timedelta) -> None:
    """Ends all tokens of a locked sensor: the newest that is in force after `overlap`, the others now."""
    await db.execute(
        """WITH alive AS (
            SELECT sensor_token_id, row_number() OVER (ORDER BY created_at DESC) = 1 AS newest FROM sensor_tokens
            WHERE sensor_id = %s AND revoked_at IS NULL AND coalesce(expires_at > now(), true))
        UPDATE sensor_tokens t
        SET expires_at = least(t.expires_at, now() + CASE WHEN newest THEN %s ELSE interval '0' END)
        FROM alive WHERE t.sensor_token_id = alive.sensor_token_id""",
        (sensor_id, overlap),
    )
