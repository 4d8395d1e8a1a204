"""Connection pools of a process."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from services.settings import Settings

# Streamed answers and group commits are not waited for by one caller as a unary call is.
LONG_STATEMENT_S = 60.0
INGEST_CONNECTIONS = 4

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]


@dataclass(frozen=True)
class Pools:
    """`read` and `scan` refuse every write; a COMMIT of `write` and `ingest` means the disk, whatever its default.

    `scan` is for answers whose pace the reader sets: slow readers, however many, take no connection from anybody else.
    `ingest` is for the writers of samples alone: neither do they wait for others, nor others for them.
    """

    write: Pool
    read: Pool
    scan: Pool
    ingest: Pool


@contextlib.asynccontextmanager
async def open_pools(settings: Settings, database_url: str) -> AsyncIterator[Pools]:
    """All pools, opened without waiting for the database: a server starts while it is away."""
    durable, read_only = (
        "-c synchronous_commit=on",
        "-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read",
    )
    size, unary_s = settings.pool_size, settings.statement_timeout_s
    async with (
        _pool(settings, database_url, "write", durable, unary_s, 2, size) as write,
        _pool(settings, database_url, "read", read_only, unary_s, 2, size) as read,
        _pool(settings, database_url, "scan", read_only, LONG_STATEMENT_S, 0, size) as scan,
        _pool(settings, database_url, "ingest", durable, LONG_STATEMENT_S, 0, INGEST_CONNECTIONS) as ingest,
    ):
        yield Pools(write, read, scan, ingest)


def _pool(
    settings: Settings, database_url: str, name: str, own: str, statement_s: float, least: int, most: int
) -> Pool:
    common = (
        f"-c statement_timeout={int(statement_s * 1000)} -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
    )
    return AsyncConnectionPool(
        database_url,
        name=name,
        min_size=least,
        max_size=most,
        timeout=settings.pool_timeout_s,
        max_waiting=most * 50,
        kwargs={"options": f"{common} {own}", "application_name": "rigmesh", "connect_timeout": 5},
        configure=_configure,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )


async def _configure(connection: Connection) -> None:
    # Message constructors take ids as text and refuse uuid.UUID.
    connection.adapters.register_loader("uuid", TextLoader)
