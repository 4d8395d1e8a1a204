"""Load on the ingest stream, through the SDK as any device would send it. Runs in a process of its own."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from rigmesh_client import Channel, RigmeshError, SensorStream, connect
from scripts.benchmarks.rig import BenchError
from scripts.benchmarks.walk import AGE_NS, PERIOD_NS, Walk

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Load:
    """What to send: one stream a token. `signals` is the number of series in a batch, which share their times.

    `batches_per_s` is per stream; None = as many as the server takes.
    """

    endpoint: str
    tokens: tuple[str, ...]
    capture_session_id: str
    series_samples: int
    seconds: float
    batches_per_s: float | None = None
    signals: int = 1


@dataclass(frozen=True)
class Sent:
    """What was sent and acknowledged; `elapsed_s` is from the first send to the last ack."""

    samples: int
    elapsed_s: float
    ack_latencies_s: list[float]
    """Of each batch from its send to its ack; empty at full speed."""


def send(load: Load) -> Sent:
    """Sends for the given time and waits for the acks. Raises BenchError: not everything was taken."""
    try:
        return asyncio.run(_send(load))
    except (ExceptionGroup, RigmeshError, TimeoutError) as error:
        raise BenchError(_explain(error)) from error


async def _send(load: Load) -> Sent:
    start_ns = time.time_ns() - AGE_NS
    walks = [Walk(seed, load.series_samples, start_ns) for seed in range(len(load.tokens))]
    latencies_s: list[float] = []
    async with asyncio.timeout(load.seconds + PATIENCE_S), AsyncExitStack() as stack:
        streams = [await _open(stack, load, token) for token in load.tokens]
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for stream, walk in zip(streams, walks, strict=True):
                tasks.create_task(_feed(stream, walk, load, latencies_s))
        elapsed_s = time.perf_counter() - started_s
    return Sent(sum(stream.sent_samples for stream in streams), elapsed_s, latencies_s)


async def _open(stack: AsyncExitStack, load: Load, token: str) -> SensorStream:
    connection = await stack.enter_async_context(connect(load.endpoint, token))
    channels = [Channel(f"walk{signal}", "V", PERIOD_NS) for signal in range(load.signals)]
    stream = SensorStream(connection, "bench", channels, capture_session_id=load.capture_session_id)
    return await stack.enter_async_context(stream)


async def _feed(stream: SensorStream, walk: Walk, load: Load, latencies_s: list[float]) -> None:
    began_s = time.perf_counter()
    number = 0
    async with asyncio.TaskGroup() as acks:
        while (now_s := time.perf_counter()) < began_s + load.seconds:
            times_ns, values = walk.series(number)
            number += 1
            await stream.send({f"walk{signal}": values for signal in range(load.signals)}, times_ns=times_ns)
            if load.batches_per_s:
                acks.create_task(_time_ack(stream, now_s, latencies_s))
                await asyncio.sleep(max(0.0, began_s + number / load.batches_per_s - time.perf_counter()))
    await stream.flush()


async def _time_ack(stream: SensorStream, sent_at_s: float, latencies_s: list[float]) -> None:
    await stream.flush()
    latencies_s.append(time.perf_counter() - sent_at_s)


def _explain(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error) or f"not everything was acknowledged within {PATIENCE_S:.0f} s"
