"""Users made or mended with database access alone, outside of any call."""

import asyncio
from typing import Any

from uuid_utils import uuid7

from services.db import events
from services.db.pool import Connection
from services.passwords import hash_password

ADMIN = "admin"


async def ensure_admin(db: Connection, password: str) -> bool:
    """Makes the user `admin` if there is no user at all, and says whether it did. The caller commits."""
    if (await anext(await db.execute("SELECT EXISTS (SELECT FROM users)")))[0]:
        return False
    user_id = str(uuid7())
    # Two first runs on one database at once: the second finds the name taken and leaves it.
    cursor = await db.execute(
        """INSERT INTO users (user_id, username, display_name, is_admin, password_hash)
        VALUES (%s, %s, 'Administrator', true, %s) ON CONFLICT DO NOTHING""",
        (user_id, ADMIN, await asyncio.to_thread(hash_password, password)),
    )
    if cursor.rowcount == 0:
        return False
    await _tell(db, "user.created", user_id, {"username": ADMIN, "is_admin": True})
    return True


async def reset_password(db: Connection, username: str, password: str) -> bool:
    """Sets a user's password and ends the user's sessions; False when there is no such user. The caller commits."""
    cursor = await db.execute(
        """UPDATE users SET password_hash = %s, updated_at = now() WHERE lower(username) = lower(%s)
        RETURNING user_id::text""",
        (await asyncio.to_thread(hash_password, password), username),
    )
    row = await cursor.fetchone()
    if row is None:
        return False
    await db.execute("UPDATE sessions SET ended_at = now() WHERE user_id = %s AND ended_at IS NULL", [row[0]])
    await db.execute("DELETE FROM login_failures WHERE lower(username) = lower(%s)", [username])
    await _tell(db, "user.password_reset", row[0], None)
    return True


async def _tell(db: Connection, type_: str, user_id: str, after: dict[str, Any] | None) -> None:
    event = events.Event(None, type_, "user", user_id, None, after)
    await events.append(db, [event], actor="operator", request_id=str(uuid7()))
