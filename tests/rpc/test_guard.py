"""A stream lasts as long as its credential."""

import asyncio
import gc
from collections.abc import AsyncIterator

import psycopg
import pytest

from rigmesh.v1.error_reason_pb2 import UNAUTHENTICATED
from services.errors import Unauthenticated
from services.rpc import guard


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RECHECK_S", 0.01)


class Source:
    """Gives 1, 2, 3, then waits for ever, unless it ends."""

    def __init__(self, *, ends: bool) -> None:
        self._ends = ends
        self.closed = False

    async def messages(self) -> AsyncIterator[int]:
        try:
            for number in (1, 2, 3):
                yield number
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def admitted() -> None:
    """In force."""


async def revoked() -> None:
    raise Unauthenticated(UNAUTHENTICATED, "revoked")


async def database_away() -> None:
    raise psycopg.OperationalError("away")


@pytest.mark.parametrize("admit", [admitted, database_away])
async def test_a_stream_runs_to_its_end(admit: object) -> None:
    source = Source(ends=True)
    assert [number async for number in guard.guarded(source.messages(), admit)] == [1, 2, 3]  # type: ignore[arg-type]
    assert source.closed


async def test_a_revoked_credential_ends_a_stream_that_waits() -> None:
    source, seen = Source(ends=False), list[int]()

    async def read() -> None:
        async for number in guard.guarded(source.messages(), revoked):
            seen.append(number)

    with pytest.raises(Unauthenticated, match="revoked"):
        await asyncio.wait_for(read(), timeout=5)
    assert seen == [1, 2, 3]
    assert source.closed


async def test_the_source_is_closed_when_the_reader_goes() -> None:
    source = Source(ends=False)
    stream = guard.guarded(source.messages(), admitted)
    assert await anext(stream) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert source.closed


async def test_a_defect_in_the_check_ends_the_stream() -> None:
    """Passed over, it would switch revocation off and tell nobody."""

    async def broken() -> None:
        raise KeyError("a defect")

    async def read() -> None:
        async for _ in guard.guarded(Source(ends=False).messages(), broken):
            pass

    with pytest.raises(KeyError):
        await asyncio.wait_for(read(), timeout=5)


async def test_a_source_that_ends_while_it_is_revoked_leaves_nothing_behind() -> None:
    ended, complaints = asyncio.Event(), list[object]()

    async def messages() -> AsyncIterator[int]:
        await ended.wait()
        return
        yield 0

    async def revoked_at_the_end() -> None:
        ended.set()
        raise Unauthenticated(UNAUTHENTICATED, "revoked")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        with pytest.raises(Unauthenticated):
            await anext(guard.guarded(messages(), revoked_at_the_end))
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not complaints
