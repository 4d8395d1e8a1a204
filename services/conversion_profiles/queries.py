"""SQL of conversion profiles."""

from google.protobuf.json_format import MessageToDict
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb
from uuid_utils import uuid7

from rigmesh.v1.conversion_profile_pb2 import ConversionProfile
from services.db.page import Page
from services.db.pool import Connection
from services.errors import not_found
from services.state_machine import Transition

COLUMNS = "conversion_profile_id, sensor_id, version, name, status, conversions, created_at, published_at"


async def lock_sensor(db: Connection, sensor_id: str) -> str:
    """The sensor's primary project. Nobody else adds or publishes a version meanwhile. Raises NotFound."""
    async with db.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT primary_project_id FROM sensors WHERE sensor_id = %s FOR NO KEY UPDATE", (sensor_id,)
        )
        project_id: str | None = await cursor.fetchone()
    if project_id is None:
        raise not_found("sensor", sensor_id)
    return project_id


async def insert_profile(db: Connection, sensor_id: str, profile: ConversionProfile) -> ConversionProfile:
    """The next version of a locked sensor, as DRAFT. The lock keeps the version numbers without gaps."""
    conversions = [MessageToDict(conversion, preserving_proto_field_name=True) for conversion in profile.conversions]
    async with db.cursor(row_factory=class_row(ConversionProfile)) as cursor:
        await cursor.execute(
            f"""INSERT INTO conversion_profiles (conversion_profile_id, sensor_id, name, conversions, version)
            SELECT %(id)s, %(sensor_id)s, %(name)s, %(conversions)s,
                (SELECT coalesce(max(version), 0) + 1 FROM conversion_profiles WHERE sensor_id = %(sensor_id)s)
            RETURNING {COLUMNS}""",
            {"id": str(uuid7()), "sensor_id": sensor_id, "name": profile.name, "conversions": Jsonb(conversions)},
        )
        return await anext(cursor)


async def select_profile(db: Connection, sensor_id: str, conversion_profile_id: str) -> ConversionProfile:
    """A version of the sensor. Raises NotFound."""
    async with db.cursor(row_factory=class_row(ConversionProfile)) as cursor:
        await cursor.execute(
            f"SELECT {COLUMNS} FROM conversion_profiles WHERE sensor_id = %s AND conversion_profile_id = %s",
            (sensor_id, conversion_profile_id),
        )
        profile = await cursor.fetchone()
    if profile is None:
        raise not_found("conversion_profile", conversion_profile_id)
    return profile


async def select_active(db: Connection, sensor_id: str) -> ConversionProfile | None:
    """The version that holds now."""
    async with db.cursor(row_factory=class_row(ConversionProfile)) as cursor:
        await cursor.execute(
            f"SELECT {COLUMNS} FROM conversion_profiles WHERE sensor_id = %s AND status = 'ACTIVE'", (sensor_id,)
        )
        return await cursor.fetchone()


async def select_profiles(db: Connection, sensor_id: str, page: Page) -> list[ConversionProfile]:
    """Versions of a sensor, newest first."""
    async with db.cursor(row_factory=class_row(ConversionProfile)) as cursor:
        await cursor.execute(
            f"""SELECT {COLUMNS} FROM conversion_profiles
            WHERE sensor_id = %(sensor_id)s AND (%(after)s::int IS NULL OR version < %(after)s)
            ORDER BY version DESC LIMIT %(limit)s""",
            {"sensor_id": sensor_id, "after": page.after, "limit": page.limit},
        )
        return await cursor.fetchall()


async def update_status(db: Connection, conversion_profile_id: str, transition: Transition) -> ConversionProfile | None:
    """Moves a version along a transition; None when its state does not allow it."""
    async with db.cursor(row_factory=class_row(ConversionProfile)) as cursor:
        await cursor.execute(
            f"""UPDATE conversion_profiles SET status = %(target)s,
                published_at = CASE WHEN %(sets)s = 'published_at' THEN statement_timestamp() ELSE published_at END
            WHERE conversion_profile_id = %(conversion_profile_id)s AND status = ANY(%(sources)s)
            RETURNING {COLUMNS}""",
            {
                "conversion_profile_id": conversion_profile_id,
                "target": transition.target,
                "sets": transition.sets,
                "sources": list(transition.sources),
            },
        )
        return await cursor.fetchone()
