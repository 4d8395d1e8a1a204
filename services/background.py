"""Tasks that run beside the calls for as long as the process does: none may end unseen."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import structlog

log = structlog.get_logger("rigmesh.background")


class Background:
    """Starts tasks that only their owner ends, by cancelling them.

    One that ends by itself, returned or raised, is logged with its stack and sets `stopping`: half a process would look
    healthy and do nothing. `failure` then says which one, and the process exits with an error, to be started anew.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure = ""

    def start(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Runs `work` until its owner cancels the task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self._ended)
        return task

    @contextlib.asynccontextmanager
    async def running(self, work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
        """Runs `work` while open; at the end cancels it and waits for it."""
        task = self.start(work, name)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None and task.cancelling():
            return
        log.critical("a background task ended", task=task.get_name(), exc_info=error)
        self.failure = self.failure or task.get_name()
        self._stopping.set()
