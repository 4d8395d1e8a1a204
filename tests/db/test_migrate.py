import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.db.migrate import FOLDER, MigrationError, migrate, read_migrations
from services.local.cluster import cluster

MIGRATE = """
import asyncio, sys
from pathlib import Path
from services.db.migrate import migrate
print(",".join(asyncio.run(migrate(sys.argv[1], "", Path(sys.argv[2])))))
"""


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A folder that the database's user can enter, as pytest's own is not under root."""
    folder = Path(tempfile.mkdtemp(prefix="rigmesh-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
async def server_url(data_dir: Path) -> AsyncIterator[str]:
    async with cluster(data_dir / "with", {"fsync": "off"}) as url:
        yield url


@pytest.fixture
async def url(server_url: str) -> AsyncIterator[str]:
    """An empty database."""
    async with await psycopg.AsyncConnection.connect(server_url, autocommit=True) as connection:
        await connection.execute("CREATE DATABASE empty")
        yield make_conninfo(server_url, dbname="empty")
        await connection.execute("DROP DATABASE empty WITH (FORCE)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (n int);\nINSERT INTO first VALUES (1);\n")
    (tmp_path / "0002_index.sql").write_text(
        "-- transactional: false\n"
        "DROP INDEX CONCURRENTLY IF EXISTS first_n_idx;\n"
        "CREATE INDEX CONCURRENTLY first_n_idx ON first (n);\n"
    )
    return tmp_path


async def fetch(url: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return (await anext(await connection.execute(query.encode())))[0]


async def test_applies_each_once_in_order(url: str, folder: Path) -> None:
    """A second call has nothing to do; a new file is applied alone."""
    assert await migrate(url, folder=folder) == ["0001_first", "0002_index"]
    assert await migrate(url, folder=folder) == []
    (folder / "0003_more.sql").write_text("INSERT INTO first VALUES (3)")
    assert await migrate(url, folder=folder) == ["0003_more"]
    assert await fetch(url, "SELECT array_agg(n) FROM first") == [1, 3]


async def test_a_failed_file_leaves_nothing(url: str, folder: Path) -> None:
    """Its transaction is rolled back, the text names it, and it is applied once it is mended."""
    (folder / "0003_bad.sql").write_text("INSERT INTO first VALUES (3); SELECT no_such_column FROM first;")
    with pytest.raises(MigrationError, match=r"0003_bad\.sql failed: .*no_such_column"):
        await migrate(url, folder=folder)
    assert await fetch(url, "SELECT count(*) FROM first") == 1
    (folder / "0003_bad.sql").write_text("INSERT INTO first VALUES (3)")
    assert await migrate(url, folder=folder) == ["0003_bad"]


async def test_an_edited_file_is_refused(url: str, folder: Path) -> None:
    """An applied file never changes: the database would no longer be what the files say."""
    await migrate(url, folder=folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE first (n bigint);\n")
    with pytest.raises(MigrationError, match=r"0001_first\.sql was edited after it was applied.*new migration"):
        await migrate(url, folder=folder)


async def test_a_newer_database_is_refused(url: str, folder: Path) -> None:
    """An older release does not touch what a later one has made."""
    await migrate(url, folder=folder)
    (folder / "0002_index.sql").unlink()
    with pytest.raises(MigrationError, match=r"newer than this code: 0002_index.*ends with 0001_first"):
        await migrate(url, folder=folder)


async def test_another_history_is_refused(url: str, folder: Path) -> None:
    """Two branches that gave one number to two files."""
    await migrate(url, folder=folder)
    (folder / "0002_index.sql").rename(folder / "0002_other.sql")
    with pytest.raises(MigrationError, match="0002_index where this code has 0002_other"):
        await migrate(url, folder=folder)


async def test_four_processes_at_once(url: str, folder: Path) -> None:
    """One applies all, the others wait for it, also while it builds an index concurrently."""
    command = [sys.executable, "-c", MIGRATE, url, str(folder)]
    processes = [
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    outputs = [await process.communicate() for process in processes]
    assert [error for _, error in outputs] == [b""] * 4
    assert sorted(output.decode().strip() for output, _ in outputs) == ["", "", "", "0001_first,0002_index"]


async def test_waits_for_a_table_in_use(url: str, folder: Path) -> None:
    """A reader's open transaction delays a migration; it gives its place in the queue up again and again."""
    await migrate(url, folder=folder)
    (folder / "0003_column.sql").write_text("ALTER TABLE first ADD COLUMN label text")
    async with await psycopg.AsyncConnection.connect(url) as reader:
        await reader.execute("SELECT * FROM first")
        migrating = asyncio.create_task(migrate(url, folder=folder))
        done, _ = await asyncio.wait({migrating}, timeout=1.5)  # longer than one lock_timeout
        assert not done
        await reader.rollback()
        assert await migrating == ["0003_column"]


async def test_a_role_of_its_own_gets_its_rights(url: str, folder: Path) -> None:
    """Where application and owner differ, the migrations' own function is called for the application."""
    (folder / "0003_rights.sql").write_text(
        "CREATE TABLE granted (role name);"
        "CREATE FUNCTION grant_application(application name) RETURNS void LANGUAGE sql AS"
        " 'INSERT INTO granted VALUES (application)'"
    )
    await migrate(url, make_conninfo(url, user="someone"), folder)
    await migrate(url, url, folder)
    assert await fetch(url, "SELECT array_agg(role::text) FROM granted") == ["someone"]


async def test_misnamed_files_are_refused(folder: Path) -> None:
    """A gap in the numbers is a file that was forgotten."""
    (folder / "0004_late.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match=r"0004_late\.sql: expected the name 0003_what\.sql"):
        read_migrations(folder)


async def test_a_server_without_timescaledb_is_named(data_dir: Path) -> None:
    """The text says what is missing and what to do about it."""
    bare = {"fsync": "off", "shared_preload_libraries": ""}
    async with cluster(data_dir / "without", bare) as url:
        with pytest.raises(MigrationError, match="add timescaledb to shared_preload_libraries"):
            await migrate(url)


async def test_the_real_ones_apply(url: str) -> None:
    """All files of this release, on an empty database, by its owner who is no superuser."""
    assert await migrate(url) == [file.stem for file in sorted(FOLDER.glob("*.sql"))]
    assert conninfo_to_dict(url)["user"] == "rigmesh"
