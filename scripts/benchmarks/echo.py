"""How many small messages a second gRPC carries both ways: the server in this process, the client in another."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc

from scripts.benchmarks.rig import STREAMS, Rig

MESSAGE = bytes(64)
IN_FLIGHT = 64
PATIENCE_S = 10.0
SERVICE, METHOD = "bench.Echo", "Echo"


async def echo(rig: Rig, seconds: float) -> dict[str, float]:
    """Messages a second that came back, over as many streams and with as many in flight as ingest has."""
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return {"rate": await asyncio.get_running_loop().run_in_executor(rig.load_process, measure, port, seconds)}
    finally:
        await server.stop(None)


def measure(port: int, seconds: float) -> float:
    """The client."""
    return asyncio.run(_measure(port, seconds))


async def _answer(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
    async for message in requests:
        yield message


async def _measure(port: int, seconds: float) -> float:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        started_s = time.perf_counter()
        counts = await asyncio.gather(*(_stream(channel, started_s + seconds) for _ in range(STREAMS)))
        return sum(counts) / (time.perf_counter() - started_s)


async def _stream(channel: grpc.aio.Channel, until_s: float) -> int:
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/{METHOD}")
    call = method(timeout=until_s - time.perf_counter() + PATIENCE_S)
    room = asyncio.Semaphore(IN_FLIGHT)

    async def write() -> None:
        while time.perf_counter() < until_s:
            await room.acquire()
            await call.write(MESSAGE)
        await call.done_writing()

    writing = asyncio.create_task(write())
    count = 0
    async for _ in call:
        count += 1
        room.release()
    await writing
    return count
