"""Waiting for a predicate within one event loop."""

import asyncio
from collections.abc import Callable


class Wakeup:
    """Like asyncio.Condition without its lock, which a callback of a future could not take."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        """Lets all waiters look at their predicates again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, predicate: Callable[[], object]) -> None:
        """Returns when the predicate holds; it is looked at once now and after each notify."""
        while not predicate():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
