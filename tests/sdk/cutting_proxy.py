"""A TCP connection between client and server that a test can cut, also in the middle of a message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

READ_BYTES = 16 << 10


class CuttingProxy:
    """Forwards to one server. `cut_after` holds, for each coming connection, how many bytes of the client pass.

    The server's answers are held back while `answers_pass` is not set.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server_at = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self.endpoint = ""
        self.cut_after: list[int] = []
        self.connections = 0
        self.answers_pass = asyncio.Event()
        self.answers_pass.set()

    def cut(self) -> None:
        """Breaks what is connected, at once and without a farewell."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        self.connections += 1
        limit = self.cut_after.pop(0) if self.cut_after else None
        server_in, server_out = await asyncio.open_connection(*self._server_at)
        self._writers |= {client_out, server_out}
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(client_in, server_out, limit))
                pumps.create_task(_pump(server_in, client_out, None, self.answers_pass))
        except* OSError:
            pass
        finally:
            self._writers -= {client_out, server_out}
            client_out.transport.abort()
            server_out.transport.abort()


@asynccontextmanager
async def cutting_proxy(target: str) -> AsyncIterator[CuttingProxy]:
    """Listens on a free port, forwarding to `target` (host:port)."""
    host, _, port = target.rpartition(":")
    proxy = CuttingProxy(host, int(port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.endpoint = "http://{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None, may_pass: asyncio.Event | None = None
) -> None:
    """Copies until either side ends, or raises ConnectionResetError when the limit is reached."""
    while data := await source.read(READ_BYTES if limit is None else min(READ_BYTES, limit)):
        if may_pass is not None:
            await may_pass.wait()
        sink.write(data)
        await sink.drain()
        if limit is not None and (limit := limit - len(data)) <= 0:
            raise ConnectionResetError("the limit of this connection")
    raise ConnectionResetError("one side has ended")
