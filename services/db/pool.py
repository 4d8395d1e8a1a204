"""Connection pools of a process."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from services.settings import Settings

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]


@dataclass(frozen=True)
class Pools:
    """`read` and `scan` refuse every write.

    `scan` is for answers whose pace the reader sets: slow readers, however many, take no connection from anybody else.
    """

    write: Pool
    read: Pool
    scan: Pool


@contextlib.asynccontextmanager
async def open_pools(settings: Settings, database_url: str) -> AsyncIterator[Pools]:
    """All pools, opened without waiting for the database: a server starts while it is away."""
    timeout_ms = int(settings.statement_timeout_s * 1000)
    common = f"-c statement_timeout={timeout_ms} -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
    read_only = f"{common} -c default_transaction_read_only=on"
    async with (
        _pool(settings, database_url, "write", common) as write,
        _pool(settings, database_url, "read", read_only) as read,
        _pool(settings, database_url, "scan", read_only, min_size=0) as scan,
    ):
        yield Pools(write, read, scan)


def _pool(settings: Settings, database_url: str, name: str, options: str, min_size: int = 2) -> Pool:
    return AsyncConnectionPool(
        database_url,
        name=name,
        min_size=min_size,
        max_size=settings.pool_size,
        timeout=settings.pool_timeout_s,
        max_waiting=settings.pool_size * 50,
        kwargs={"options": options, "application_name": "rigmesh", "connect_timeout": 5},
        configure=_configure,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )


async def _configure(connection: Connection) -> None:
    # Message constructors take ids as text and refuse uuid.UUID.
    connection.adapters.register_loader("uuid", TextLoader)
