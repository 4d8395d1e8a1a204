"""One Ctrl-C stops everything in order, a second one hurries."""

import asyncio
import signal
from collections.abc import Callable

# What has not ended by itself then is made to, so that all is over within 10 s. It loses nothing: acks follow COMMIT.
BUDGET_S = 9.0


class Stop:
    """Turns SIGINT, SIGTERM and SIGHUP (the terminal was closed) into a cancellation, then into `hurried`."""

    def __init__(self, task: asyncio.Task[None], report: Callable[[str], None]) -> None:
        self.requested = False
        self.hurried = asyncio.Event()
        self._task = task
        self._report = report
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self.requested:
            self.hurried.set()
            return
        self.requested = True
        self._report("stopping (Ctrl-C again to hurry)")
        asyncio.get_running_loop().call_later(BUDGET_S, self.hurried.set)
        self._task.cancel()
