"""What each pool is for shows in its connections."""

from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from services.db.pool import INGEST_CONNECTIONS, Pool, open_pools
from services.settings import Settings
from services.telemetry.ingest.writer import WRITERS


async def shown(pool: Pool, name: str) -> str:
    async with pool.connection() as db:
        value: str = (await anext(await db.execute(f"SHOW {name}")))[0]  # type: ignore[arg-type]
    return value


@pytest.mark.parametrize(
    ("name", "timeout", "read_only"),
    [("write", "3s", "off"), ("read", "3s", "on"), ("scan", "1min", "on"), ("ingest", "1min", "off")],
)
async def test_limits_and_rights_of_a_pool(rig: Any, name: str, timeout: str, read_only: str) -> None:
    async with open_pools(Settings(statement_timeout_s=3), rig.database_url) as pools:
        pool = getattr(pools, name)
        assert await shown(pool, "statement_timeout") == timeout
        assert await shown(pool, "default_transaction_read_only") == read_only


@pytest.mark.parametrize("name", ["write", "ingest"])
async def test_a_commit_is_durable_whatever_the_database_says(rig: Any, name: str) -> None:
    async with await psycopg.AsyncConnection.connect(rig.database_url, autocommit=True) as db:
        await db.execute("CREATE DATABASE careless")
        try:
            await db.execute("ALTER DATABASE careless SET synchronous_commit = off")
            async with open_pools(Settings(), make_conninfo(rig.database_url, dbname="careless")) as pools:
                assert await shown(pools.read, "synchronous_commit") == "off"
                assert await shown(getattr(pools, name), "synchronous_commit") == "on"
        finally:
            await db.execute("DROP DATABASE careless WITH (FORCE)")


async def test_writers_of_samples_never_wait_for_other_calls(rig: Any) -> None:
    assert INGEST_CONNECTIONS >= WRITERS
    async with (
        open_pools(Settings(pool_size=2, pool_timeout_s=0.5), rig.database_url) as pools,
        pools.write.connection(),
        pools.write.connection(),
    ):
        assert await shown(pools.ingest, "synchronous_commit") == "on"
