"""SQL of users."""

from psycopg.rows import class_row
from uuid_utils import uuid7

from rigmesh.v1.user_pb2 import User
from services.db.pool import Connection

USER = "user_id, username, email, display_name, is_admin, created_at"


async def create_user(db: Connection, wanted: User, password_hash: str) -> User:
    """The new user."""
    async with db.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(
            f"""INSERT INTO users (user_id, username, email, display_name, is_admin, password_hash)
            VALUES (%s, %s, %s, %s, %s, %s) RETURNING {USER}""",
            (
                str(uuid7()),
                wanted.username,
                wanted.email or None,
                wanted.display_name,
                wanted.is_admin,
                password_hash,
            ),
        )
        return await anext(cursor)
