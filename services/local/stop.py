"""One Ctrl-C stops everything in order, a second one hurries."""

import asyncio
import signal
from collections.abc import Callable

# After the streams' time to drain. What has not ended by itself then is made to, which loses nothing: acks follow
# COMMIT. The database is left a share of its own, or one stuck stream would make each next start a crash recovery.
SERVERS_S, DATABASE_S = 2.0, 2.5


class Stop:
    """Turns SIGINT, SIGTERM and SIGHUP (the terminal was closed) into a cancellation.

    Later into `hurried` for the servers, and later still for the database: 9.5 s after the signal with the default of
    `drain_timeout_s`. A second signal sets both at once.
    """

    def __init__(self, task: asyncio.Task[None], report: Callable[[str], None], drain_timeout_s: float) -> None:
        self.requested = False
        self.hurried = asyncio.Event()
        self.database_hurried = asyncio.Event()
        self._servers_timeout_s = drain_timeout_s + SERVERS_S
        self._task = task
        self._report = report
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self.requested:
            self.hurried.set()
            self.database_hurried.set()
            return
        self.requested = True
        self._report("stopping (Ctrl-C again to hurry)")
        loop = asyncio.get_running_loop()
        loop.call_later(self._servers_timeout_s, self.hurried.set)
        loop.call_later(self._servers_timeout_s + DATABASE_S, self.database_hurried.set)
        self._task.cancel()
