"""Connection pools: one for writes, one whose transactions are read-only."""

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
    """`read` refuses every write; `write` is for all else."""

    write: Pool
    read: Pool


@contextlib.asynccontextmanager
async def open_pools(settings: Settings, database_url: str) -> AsyncIterator[Pools]:
    """Both pools, opened without waiting for the database: a server starts while it is away."""
    timeout_ms = int(settings.statement_timeout_s * 1000)
    common = f"-c statement_timeout={timeout_ms} -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
    async with (
        _pool(settings, database_url, "write", common) as write,
        _pool(settings, database_url, "read", f"{common} -c default_transaction_read_only=on") as read,
    ):
        yield Pools(write, read)


def _pool(settings: Settings, database_url: str, name: str, options: str) -> Pool:
    return AsyncConnectionPool(
        database_url,
        name=name,
        min_size=2,
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
