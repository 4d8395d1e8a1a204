"""A live reader goes on where its token says, whatever changed in between."""

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg

from rigmesh.v1.telemetry_service_pb2 import StreamTelemetryRequest
from services.db.page import seal
from services.telemetry.reads.live import MOST_UNSEALED, Commit, Cursor, Part, cursor_now, next_commits, snapshot
from services.telemetry.reads.merge import MOST_SAMPLES
from services.telemetry.reads.physical import Conversion, Converter, Stretch
from services.telemetry.reads.selection import SelectedChannel
from services.telemetry.reads.stored import FOREVER_NS, StoredBlock
from tests.factory import rows
from tests.telemetry.inside import reading
from tests.telemetry.test_merge import block
from tests.telemetry.test_reads import store

CHANNEL = SelectedChannel(1, "s/ax", "s", "ax", "g", 0, [None])


def commit(blocks: list[StoredBlock]) -> Commit:
    placed_at = blocks[0].received_at
    return Commit(position=5, commit_id=9, channel_ids=[1], placed_from=placed_at, placed_until=placed_at)


def converter(*borders: int) -> Converter:
    """A new profile version from each border on."""
    edges = [-FOREVER_NS, *borders, FOREVER_NS]
    return Converter(
        tuple(Stretch(start, end, Conversion(str(number), "g")) for number, (start, end) in enumerate(pairwise(edges)))
    )


def test_a_profile_published_between_token_and_resume_skips_and_doubles_nothing() -> None:
    blocks = [block(1, 1, 1, list(range(100)), None)]
    everything = list(range(100))
    for before, after in (((30, 60), ()), ((), (30, 60)), ((50,), (20, 70))):
        first = Part(Cursor(4, 1), commit(blocks), CHANNEL, blocks)
        for taken, (_, token) in enumerate(list(first.chunks(converter(*before))), 1):
            had = [t for chunk, _ in list(first.chunks(converter(*before)))[:taken] for t in chunk.time_ns]
            again = Part(token, commit(blocks), CHANNEL, blocks)
            rest = [t for chunk, _ in again.chunks(converter(*after)) for t in chunk.time_ns]
            assert had + rest == everything


def test_a_commit_of_many_blocks_of_a_channel_comes_in_messages_of_bounded_size() -> None:
    """Side by side they make one long run of samples."""
    times = np.arange(MOST_SAMPLES) * 1000
    blocks = [block(lane, 1, lane, (times + lane).tolist(), None) for lane in range(1, 5)]
    part = Part(Cursor(4, 1), commit(blocks), CHANNEL, blocks)
    sizes = [(chunk.ByteSize(), len(chunk.time_ns)) for chunk, _ in part.chunks(converter())]
    assert sum(n for _, n in sizes) == 4 * MOST_SAMPLES
    assert max(size for size, _ in sizes) < 2 * 1024 * 1024


def test_the_longest_token_keeps_to_the_contract() -> None:
    cursor = [2**62, 2**31 - 1, 2**22, [2**62] * MOST_UNSEALED]
    assert len(seal(bytes(32), bytes(32), cursor)) <= 1024


async def test_a_stream_does_not_begin_on_more_than_a_token_holds(rig: Any) -> None:
    insert = """INSERT INTO ingest_commits (channel_ids, placed_from, placed_until)
        SELECT '{}', now(), now() FROM generate_series(1, %s)"""
    async with await psycopg.AsyncConnection.connect(rig.database_url) as db:
        await db.execute(insert, (MOST_UNSEALED + 1,))
        assert await cursor_now(db) is None
        await db.rollback()


async def test_commits_of_others_are_passed_over_unread(bench: Any, rig: Any) -> None:
    await store(bench, "ax", [[1.0]])
    async with reading(rig, bench) as (_, call, _):
        (last,) = await rows(rig, "SELECT coalesce(max(position), 0) AS position FROM ingest_commit_seals")
        await store(bench, "ax", [[2.0]])
        request = StreamTelemetryRequest(channels=[bench.channel("ax")])
        nothing = StreamTelemetryRequest(capture_session_id=bench.lab.project_id)
        cursor = Cursor(last["position"])
        commits, wanted = await _when_sealed(call, cursor, request)
        assert wanted <= {one.commit_id for one in commits}
        async with snapshot(call.pools.read) as db:
            commits, wanted = await next_commits(db, cursor, nothing)
        assert commits
        assert not wanted


async def _when_sealed(call: Any, cursor: Cursor, request: Any) -> tuple[Any, set[int]]:
    async with asyncio.timeout(20):
        while True:
            async with snapshot(call.pools.read) as db:
                commits, wanted = await next_commits(db, cursor, request)
            if wanted:
                return commits, wanted
            await asyncio.sleep(0.05)
