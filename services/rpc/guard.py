"""Lets a stream go on only as long as its credential is in force."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

import psycopg
import structlog

from services.errors import RigmeshError

log = structlog.get_logger("rigmesh.guard")
RECHECK_S = 3.0
Item = TypeVar("Item")


async def guarded(messages: AsyncIterator[Item], admit: Callable[[], Awaitable[None]]) -> AsyncGenerator[Item, None]:
    """Passes `messages` on; raises what `admit` raises within RECHECK_S of its first refusal, also in mid-wait.

    While the database does not answer, the stream goes on: revocation waits for it. Closes `messages`.
    """
    watch = asyncio.create_task(_refused(admit))
    upcoming: asyncio.Future[Item] | None = None
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(messages))
            await asyncio.wait((upcoming, watch), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                raise watch.result()
            try:
                message = upcoming.result()
            except StopAsyncIteration:
                return
            yield message
    finally:
        watch.cancel()
        if upcoming is not None:
            upcoming.cancel()
            # Also where it is done: nobody else looks at how it ended.
            await asyncio.gather(upcoming, return_exceptions=True)
        close = getattr(messages, "aclose", None)
        if close is not None:
            await close()


async def _refused(admit: Callable[[], Awaitable[None]]) -> RigmeshError:
    while True:
        await asyncio.sleep(RECHECK_S)
        try:
            await admit()
        except RigmeshError as error:
            return error
        except psycopg.Error as error:  # also the pool's; anything else is a defect, which ends the stream
            log.warning("the credential of a stream cannot be looked at, trying again", error=str(error))
