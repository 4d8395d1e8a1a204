"""Brings a database to this code's schema: every file `migrations/NNNN_what.sql`, once, in order, forward only.

An own runner instead of yoyo-migrations: yoyo does not notice that an applied file was edited, and the row that it
locks with outlives a crash and blocks every later run. Here SHA-256 checksums are kept beside the names, and the lock
is an advisory one, which ends with its connection.

A file runs in one transaction, unless its first line is `-- transactional: false` (CREATE INDEX CONCURRENTLY). Such a
file holds plain statements, each ending with `;` at the end of a line, and must bear being repeated: a crash in its
middle leaves the first ones done.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

FOLDER = Path(__file__).resolve().parents[2] / "migrations"
NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
LOCK_ID = int.from_bytes(b"rigmesh", "big")
TURN_TIMEOUT_S = 600.0
LOCK_TIMEOUT_MS = 1000
LOCK_ATTEMPTS = 30

Connection = psycopg.AsyncConnection[TupleRow]


class MigrationError(Exception):
    """The database cannot be brought to this schema; the text says what to do."""


@dataclass(frozen=True)
class Migration:
    """One file."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        return self.sql.partition("\n")[0].strip() != "-- transactional: false"


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """All files in order. Raises MigrationError for a name of another form or a number that is missing or doubled."""
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise MigrationError(f"no migrations in {folder}")
    for number, file in enumerate(files, start=1):
        match = NAME.fullmatch(file.name)
        if match is None or int(match[1]) != number:
            raise MigrationError(f"{file}: expected the name {number:04}_what.sql (lower case, numbers without gaps)")
    return [Migration(file.stem, file.read_text()) for file in files]


async def migrate(owner_url: str, application_url: str = "", folder: Path = FOLDER) -> list[str]:
    """Applies what is missing and returns the names of what it applied.

    Where the application has a role of its own, that role gets its rights (`grant_application`, made by a migration).
    Any number of processes may call it at once: one works, the others wait for it, 10 minutes at most. The URL must
    lead to the server itself, not to a pooler that shares sessions. Raises MigrationError.
    """
    migrations = read_migrations(folder)
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True, connect_timeout=10) as connection:
        await _require_timescaledb(connection)
        await _take_turn(connection)
        pending = migrations[await _verify(connection, migrations) :]
        for migration in pending:
            await _apply(connection, migration)
        role = conninfo_to_dict(application_url).get("user")
        if role and role != connection.info.user:
            await connection.execute("SELECT grant_application(%s)", [role])
    return [migration.name for migration in pending]


async def _require_timescaledb(connection: Connection) -> None:
    query = (
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),"
        " current_setting('timescaledb.disable_load', true) IS NOT NULL"
    )
    installed, loaded = await anext(await connection.execute(query))
    where = f"the PostgreSQL {connection.info.server_version // 10000} at {connection.info.host}"
    if not installed:
        raise MigrationError(
            f"{where} has no TimescaleDB. Install it there (https://docs.timescale.com/self-hosted/latest/install), or "
            "leave RIGMESH_DATABASE_URL unset to use the embedded one"
        )
    if not loaded:
        raise MigrationError(
            f"{where} has TimescaleDB but does not load it: add timescaledb to shared_preload_libraries in its "
            "postgresql.conf and restart it"
        )


async def _take_turn(connection: Connection) -> None:
    # Polling, because a session that waits inside pg_advisory_lock holds a snapshot, and CREATE INDEX CONCURRENTLY of
    # the one at work would wait for that: a deadlock.
    try:
        async with asyncio.timeout(TURN_TIMEOUT_S):
            while not await _try_lock(connection):  # noqa: ASYNC110 what is awaited is in the database
                await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311
    except TimeoutError:
        raise MigrationError(
            f"another process has been migrating this database for {TURN_TIMEOUT_S:.0f} s; see pg_stat_activity there"
        ) from None


async def _try_lock(connection: Connection) -> bool:
    return bool((await anext(await connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_ID])))[0])


async def _verify(connection: Connection, migrations: Sequence[Migration]) -> int:
    """How many of the migrations are applied, once it is sure that these are their first ones, unchanged."""
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    cursor = await connection.execute("SELECT name, checksum, applied_at::text FROM schema_migrations ORDER BY name")
    applied = await cursor.fetchall()
    if len(applied) > len(migrations):
        raise MigrationError(
            f"the database is newer than this code: {applied[-1][0]} is applied there, this code ends with "
            f"{migrations[-1].name}. Install the release that the database belongs to, or a later one"
        )
    for (name, checksum, applied_at), migration in zip(applied, migrations, strict=False):
        if name != migration.name:
            raise MigrationError(f"the database has {name} where this code has {migration.name}: not the same history")
        if checksum != migration.checksum:
            raise MigrationError(
                f"migrations/{name}.sql was edited after it was applied at {applied_at}: restore the file and put the "
                "change into a new migration"
            )
    return len(applied)


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        if migration.transactional:
            await _apply_in_transaction(connection, migration)
        else:
            await _apply_statements(connection, migration)
    except psycopg.Error as error:
        raise MigrationError(f"migrations/{migration.name}.sql failed: {error}") from error


async def _apply_in_transaction(connection: Connection, migration: Migration) -> None:
    # A statement that waits for a table lock makes every later query on that table wait behind it, so each wait is
    # short and the whole file starts again.
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}".encode())
                await connection.execute(migration.sql.encode())
                await _record(connection, migration)
            return
        except psycopg.errors.LockNotAvailable:
            if attempt == LOCK_ATTEMPTS:
                raise
            await asyncio.sleep(random.uniform(0.5, 1.5))  # noqa: S311


async def _apply_statements(connection: Connection, migration: Migration) -> None:
    # No lock_timeout here: an index that is built concurrently blocks nobody while it waits, and giving up would leave
    # it behind invalid.
    for statement in re.split(r"(?<=;)[ \t]*\n", migration.sql):
        await connection.execute(statement.encode())
    await _record(connection, migration)


async def _record(connection: Connection, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)", [migration.name, migration.checksum]
    )
