"""SQL of sessions, API tokens and failed logins."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.rows import class_row
from uuid_utils import uuid7

from rigmesh.v1 import auth_pb2, project_pb2, user_pb2
from services.db.page import Page
from services.db.pool import Connection, Pool
from services.rpc.auth import SESSION_MAX
from services.rpc.tokens import Token, hash_secret

API_TOKEN = "api_token_id, name, scopes, project_id, created_at, expires_at, last_used_at, revoked_at"  # noqa: S105
FAILURE_WINDOW = "15 minutes"
MAX_FAILURES = 5
MAX_PROJECTS = 1000


@dataclass(frozen=True)
class Account:
    """What a login needs of a user."""

    user_id: str
    is_admin: bool
    password_hash: str


async def open_attempt(pool: Pool, username: str) -> float | None:
    """Counts a login as failed before its password is looked at; seconds to wait when there were too many already.

    In a transaction of its own, so that it outlives the call; under a lock, so that parallel guesses are all counted.
    """
    async with pool.connection() as db:
        await db.execute("SELECT pg_advisory_xact_lock(hashtextextended('login ' || lower(%s), 0))", (username,))
        await db.execute(
            f"""DELETE FROM login_failures
            WHERE username = lower(%s) AND failed_at < now() - interval '{FAILURE_WINDOW}'""",
            (username,),
        )
        cursor = await db.execute(
            f"""SELECT extract(epoch FROM failed_at + interval '{FAILURE_WINDOW}' - now())::float8 FROM login_failures
            WHERE username = lower(%s) ORDER BY failed_at DESC LIMIT 1 OFFSET {MAX_FAILURES - 1}""",
            (username,),
        )
        row = await cursor.fetchone()
        if row is None:
            await db.execute("INSERT INTO login_failures (username) VALUES (lower(%s))", (username,))
    return row[0] if row else None


async def clear_attempts(db: Connection, username: str) -> None:
    """Forgets the failures of a name."""
    await db.execute("DELETE FROM login_failures WHERE username = lower(%s)", (username,))


async def find_account(db: Connection, username: str) -> Account | None:
    """The user who may sign in with this name."""
    async with db.cursor(row_factory=class_row(Account)) as cursor:
        await cursor.execute(
            """SELECT user_id, is_admin, password_hash FROM users
            WHERE lower(username) = lower(%s) AND disabled_at IS NULL""",
            (username,),
        )
        return await cursor.fetchone()


async def replace_hash(db: Connection, account: Account, password_hash: str) -> None:
    """Stores the same password under today's parameters, unless it was changed meanwhile."""
    await db.execute(
        "UPDATE users SET password_hash = %s WHERE user_id = %s AND password_hash = %s",
        (password_hash, account.user_id, account.password_hash),
    )


async def create_session(db: Connection, user_id: str, secret: str) -> tuple[str, datetime]:
    """A new session: its id and when it ends."""
    cursor = await db.execute(
        f"""INSERT INTO sessions (session_id, secret_hash, user_id, expires_at)
        VALUES (%s, %s, %s, now() + interval '{SESSION_MAX}') RETURNING session_id, expires_at""",
        (str(uuid7()), hash_secret(secret), user_id),
    )
    session_id, expires_at = await anext(cursor)
    return session_id, expires_at


async def session_end(db: Connection, session_id: str) -> datetime:
    """When a session ends at the latest."""
    cursor = await db.execute("SELECT expires_at FROM sessions WHERE session_id = %s", (session_id,))
    expires_at: datetime = (await anext(cursor))[0]
    return expires_at


async def end_session(db: Connection, session_id: str) -> None:
    """From now on the session's cookie is worth nothing."""
    await db.execute("UPDATE sessions SET ended_at = now() WHERE session_id = %s AND ended_at IS NULL", (session_id,))


async def get_user(db: Connection, user_id: str) -> user_pb2.User:
    """The user behind a principal."""
    async with db.cursor(row_factory=class_row(user_pb2.User)) as cursor:
        await cursor.execute(
            "SELECT user_id, username, email, display_name, is_admin, created_at FROM users WHERE user_id = %s",
            (user_id,),
        )
        return await anext(cursor)


async def list_projects(db: Connection, user_id: str) -> Sequence[project_pb2.Project]:
    """The user's first 1000 projects by name. Their descriptions stay out: other people wrote them, at any length."""
    async with db.cursor(row_factory=class_row(project_pb2.Project)) as cursor:
        await cursor.execute(
            f"""SELECT project_id, name, m.role, p.created_at FROM projects p JOIN project_members m USING (project_id)
            WHERE m.user_id = %s ORDER BY name, project_id LIMIT {MAX_PROJECTS}""",
            (user_id,),
        )
        return await cursor.fetchall()


async def role_in(db: Connection, project_id: str, user_id: str) -> str | None:
    """The user's role in a project; None for an outsider."""
    cursor = await db.execute(
        "SELECT role FROM project_members WHERE project_id = %s AND user_id = %s", (project_id, user_id)
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def create_api_token(db: Connection, user_id: str, wanted: auth_pb2.ApiToken, token: Token) -> auth_pb2.ApiToken:
    """The new token, without its secret."""
    async with db.cursor(row_factory=class_row(auth_pb2.ApiToken)) as cursor:
        await cursor.execute(
            f"""INSERT INTO api_tokens
                (api_token_id, public_id, secret_hash, user_id, name, scopes, project_id, expires_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING {API_TOKEN}""",
            (
                str(uuid7()),
                token.public_id,
                token.secret_hash,
                user_id,
                wanted.name,
                [auth_pb2.ApiToken.Scope.Name(scope) for scope in wanted.scopes],
                wanted.project_id or None,
                wanted.expires_at.ToDatetime(tzinfo=UTC) if wanted.HasField("expires_at") else None,
            ),
        )
        return await anext(cursor)


async def list_api_tokens(db: Connection, user_id: str, page: Page) -> Sequence[auth_pb2.ApiToken]:
    """The user's tokens, newest first."""
    async with db.cursor(row_factory=class_row(auth_pb2.ApiToken)) as cursor:
        await cursor.execute(
            f"""SELECT {API_TOKEN} FROM api_tokens
            WHERE user_id = %(user_id)s AND (%(after)s::uuid IS NULL OR api_token_id < %(after)s::uuid)
            ORDER BY api_token_id DESC LIMIT %(limit)s""",
            {"user_id": user_id, "after": page.after, "limit": page.limit},
        )
        return await cursor.fetchall()


async def lock_api_token(db: Connection, user_id: str, api_token_id: str) -> auth_pb2.ApiToken | None:
    """A token of the user, held until the transaction ends."""
    async with db.cursor(row_factory=class_row(auth_pb2.ApiToken)) as cursor:
        await cursor.execute(
            f"SELECT {API_TOKEN} FROM api_tokens WHERE api_token_id = %s AND user_id = %s FOR UPDATE",
            (api_token_id, user_id),
        )
        return await cursor.fetchone()


async def revoke_api_token(db: Connection, api_token_id: str) -> auth_pb2.ApiToken:
    """The token as it is afterwards; the first revocation keeps its time."""
    async with db.cursor(row_factory=class_row(auth_pb2.ApiToken)) as cursor:
        await cursor.execute(
            f"""UPDATE api_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE api_token_id = %s
            RETURNING {API_TOKEN}""",
            (api_token_id,),
        )
        return await anext(cursor)
