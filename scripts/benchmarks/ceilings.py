"""What the database alone can take: bare binary COPY over as many connections as the product writes with."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import count, cycle
from uuid import uuid4

import psycopg

from scripts.benchmarks import rows
from scripts.benchmarks.rig import STREAMS, Rig
from scripts.benchmarks.walk import AGE_NS, Walk
from services.telemetry.blocks import COLUMNS, COPY_HEADER, COPY_TRAILER, Input, Origin, encode, row_head
from services.telemetry.ingest.writer import GROUP_BYTES, WRITERS
from services.telemetry.series import Samples

# The product's own definition, taken from the catalog.
BLOCKS_TABLE = "CREATE TABLE bench_copy (LIKE sample_blocks INCLUDING ALL)"
# So many that they do not stay in the processor's caches, where the product's blocks would not be either.
GROUPS = 16
HYPERTABLE = """SELECT create_hypertable('bench_copy', 'placed_at', chunk_time_interval => interval '7 days',
    create_default_indexes => false)"""


async def block_copy(rig: Rig, seconds: float, *, series_samples: int) -> dict[str, float]:
    """Samples a second as blocks that were encoded beforehand."""
    groups = [cycle(_block_groups(channels, series_samples)) for channels in _channels()]
    return {"rate": await _copy_rate(rig, seconds, BLOCKS_TABLE, COLUMNS, "sum(n)", groups)}


async def row_copy(rig: Rig, seconds: float) -> dict[str, float]:
    """Samples a second as one row each."""
    groups = [rows.groups(channels, GROUP_BYTES) for channels in _channels()]
    return {"rate": await _copy_rate(rig, seconds, rows.TABLE, rows.COLUMNS, "count(*)", groups)}


async def _copy_rate(
    rig: Rig, seconds: float, table: str, columns: str, counting: str, groups: Sequence[Iterator[bytes]]
) -> float:
    await rig.db.execute(f"{table}; {HYPERTABLE}".encode())
    try:
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(await psycopg.AsyncConnection.connect(rig.database)) for _ in groups
            ]
            for db, payloads in zip(connections, groups, strict=True):
                await _copy(db, columns, next(payloads))  # the first one makes the chunk
            before = await _count(rig.db, counting)
            started_s = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for db, payloads in zip(connections, groups, strict=True):
                    tasks.create_task(_copy_until(db, columns, payloads, started_s + seconds))
            elapsed_s = time.perf_counter() - started_s
        return (await _count(rig.db, counting) - before) / elapsed_s
    finally:
        await rig.db.execute("DROP TABLE bench_copy")


async def _copy_until(db: psycopg.AsyncConnection, columns: str, payloads: Iterator[bytes], until_s: float) -> None:
    while time.perf_counter() < until_s:
        await _copy(db, columns, next(payloads))


async def _copy(db: psycopg.AsyncConnection, columns: str, payload: bytes) -> None:
    command = f"COPY bench_copy ({columns}) FROM STDIN (FORMAT binary)".encode()
    async with db.transaction(), db.cursor() as cursor, cursor.copy(command) as copy:
        await copy.write(payload)


async def _count(db: psycopg.AsyncConnection, counting: str) -> int:
    (number,) = await anext(await db.execute(f"SELECT {counting} FROM bench_copy".encode()))
    return int(number)


def _channels() -> list[range]:
    """Channel numbers by connection."""
    return [range(first, STREAMS, WRITERS) for first in range(WRITERS)]


def _block_groups(channels: Sequence[int], series_samples: int) -> list[bytes]:
    """Payloads in COPY's form, each about as large as a commit of the product may be."""
    blocks = _blocks(channels, series_samples)
    groups = []
    for _ in range(GROUPS):
        parts, size = [COPY_HEADER], 0
        while size < GROUP_BYTES:
            parts.append(next(blocks))
            size += len(parts[-1])
        groups.append(b"".join((*parts, COPY_TRAILER)))
    return groups


def _blocks(channels: Sequence[int], series_samples: int) -> Iterator[bytes]:
    start_ns = time.time_ns() - AGE_NS
    walks = {channel: Walk(channel, series_samples, start_ns) for channel in channels}
    session_id = str(uuid4())
    for number in count():
        for channel, walk in walks.items():
            times_ns, values = walk.series(number)
            origin = Origin(lane_id=channel, seq=number + 1, clock_id=1, offset_ns=0, received_ns=start_ns)
            (block,) = encode([Input(origin, 0, channel, session_id, Samples(times_ns, values, None))])
            yield row_head(1, False) + block.row
