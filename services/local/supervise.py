"""Keeps child processes running: one that ends is started again, until it is told to stop."""

import asyncio
import random
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from services.local.process import end

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 10.0
STOP_TIMEOUT_S = 30.0
STEADY_S = 30.0  # a process that ran this long has recovered: its delays start small again


@dataclass
class Child:
    """One supervised process. `stop_signal` asks it to end, `last_signal` makes it once `hurried` is set.

    `hurried` may be shared: it is set by whoever is in a hurry, and by a stop that takes longer than `stop_timeout_s`.
    It is never given up: after each end it starts again within LONGEST_DELAY_S, and `report` gets a line about it.
    """

    name: str
    launch: Callable[[], Awaitable[Process]]
    report: Callable[[str], None]
    hurried: asyncio.Event
    stop_signal: signal.Signals = signal.SIGTERM
    last_signal: signal.Signals = signal.SIGKILL
    stop_timeout_s: float = STOP_TIMEOUT_S
    failures: int = 0
    outcome: str = "has not started"
    process: Process | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Returns once `stop` was called and the process has ended."""
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            started_at = clock()
            self.outcome = await self._run_once()
            if self._stopping.is_set():
                return
            self.failures = 1 if clock() - started_at > STEADY_S else self.failures + 1
            delay_s = _delay_s(self.failures)
            self.report(f"{self.name} {self.outcome}; it starts again in {delay_s:.1f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def stop(self) -> None:
        """Asks the process to end and waits for that."""
        self._stopping.set()
        if self.process:
            timer = asyncio.get_running_loop().call_later(self.stop_timeout_s, self.hurried.set)
            await end(self.process, self.stop_signal, self.hurried, self.last_signal)
            timer.cancel()

    async def _run_once(self) -> str:
        try:
            self.process = await self.launch()
        except Exception as error:  # whatever it is: it is told, and may be over at the next attempt
            return f"did not start ({error})"
        if self._stopping.is_set():  # `stop` came while it was being launched
            await self.stop()
        code = await self.process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@asynccontextmanager
async def supervised(*children: Child) -> AsyncIterator[None]:
    """Runs the children meanwhile, then stops them all at once."""
    running = [asyncio.create_task(child.run(), name=child.name) for child in children]
    try:
        yield
    finally:
        await asyncio.gather(*(child.stop() for child in children))
        await asyncio.gather(*running)


def _delay_s(failures: int) -> float:
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311
