"""The stream of a device: numbered, buffered, resumed, and reconciled at its end."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from numpy.typing import ArrayLike

from rigmesh.v1.telemetry_ingest_pb2 import Clock, Open, Reject
from rigmesh_client.batches import split
from rigmesh_client.buffer import SendBuffer
from rigmesh_client.channels import Channel, ChannelTable
from rigmesh_client.columns import as_times
from rigmesh_client.connection import Connection
from rigmesh_client.errors import NotConnected
from rigmesh_client.lane import Lane
from rigmesh_client.rejects import RejectLog

READ_CLOCK_NS: dict[Clock.Kind.ValueType, Callable[[], int]] = {
    Clock.WALL: time.time_ns,
    Clock.MONOTONIC: time.monotonic_ns,
}


class SensorStream:
    """Sends samples to Rigmesh exactly once; an async context manager.

        async with SensorStream(connection, "imu", [Channel("ax", "g")]) as stream:
            await stream.send({"ax": values}, start_ns=start_ns, period_ns=20_000_000)

    Entering waits until the server has opened the stream. Leaving sends Finish and returns when the server has
    accounted for every sample; leaving by an exception drops what is not acknowledged. In between a broken connection,
    or one on which nothing is acknowledged for a minute, is opened again for as long as it takes, and what is not
    acknowledged is sent again. A stream is entered once, and is a new epoch: its numbers do not go on from an earlier
    process. It begins another one when the server has forgotten its epoch, restored from a backup.

    Entering, `send`, `flush` and leaving raise StreamRefused where trying again would not help; leaving, DataMissing.
    Entering does so too when a channel cannot be bound; `rejects` has all of them.
    """

    def __init__(
        self,
        connection: Connection,
        producer: str,
        channels: Sequence[Channel],
        *,
        capture_session_id: str = "",
        clock: Clock.Kind.ValueType = Clock.WALL,
        boot_id: str = "",
        checksum: bool = False,
        max_batches: int = 1024,
        max_bytes: int = 64 << 20,
        open_timeout_s: float | None = 30.0,
        on_reject: Callable[[Reject], None] | None = None,
    ):
        """producer: a name of letters, digits and `_ . -`, unique among the token's streams, the same after a restart.

        capture_session_id: empty = the one that is running for the sensor when its channel is first bound. A stream all
            of whose channels have the same one stays with it when it is opened again. Channels of no session, or of
            several, are looked up anew then, for one Open can name one session only.
        clock: what the times given to `send` are read from: Clock.WALL (nanoseconds since 1970), or Clock.MONOTONIC,
            which is this process's `time.monotonic_ns()`; its boot is then named by `boot_id`.
        checksum: send a CRC-32C with each batch, which the server checks.
        max_batches, max_bytes: how much is kept unacknowledged before `send` waits.
        open_timeout_s: how long entering tries (NotConnected after that); None = for ever.
        on_reject: called with each Reject; it must not block. The newest are also kept in `rejects`.
        """
        self._checksum = checksum
        self._open_timeout_s = open_timeout_s
        self._channels = ChannelTable(channels)
        self._buffer = SendBuffer(max_batches, max_bytes)
        self._rejects = RejectLog(on_reject)
        self._progress = asyncio.Event()
        self._lane = Lane(
            connection.open_ingest_call,
            Open(producer=producer, boot_id=boot_id, clock=Clock(kind=clock), capture_session_id=capture_session_id),
            self._buffer,
            self._channels,
            self._rejects,
            READ_CLOCK_NS[clock],
            self._progress.set,
        )
        self._task: asyncio.Task[None] | None = None
        self.sent_samples = 0
        """Samples that `send` has taken."""
        self.sent_bytes = 0
        """Bytes of their batches."""

    @property
    def epoch(self) -> int:
        """The numbering that the server gave to this stream; 0 = not open yet."""
        return self._lane.epoch

    @property
    def reconnections(self) -> int:
        """How often the stream was opened again."""
        return self._lane.reconnections

    @property
    def unacknowledged_batches(self) -> int:
        """Batches that would be lost with this process."""
        return len(self._buffer)

    @property
    def rejects(self) -> list[Reject]:
        """The newest 100 Rejects, oldest first."""
        return list(self._rejects.newest)

    @property
    def reject_count(self) -> int:
        """Rejects in all."""
        return self._rejects.count

    def bind(self, channels: Sequence[Channel]) -> None:
        """More channels, from the next `send` on. ValueError: a name that is taken, or more than 1024 in all."""
        self._channels.add(channels)

    async def send(
        self,
        values: Mapping[str, ArrayLike],
        *,
        start_ns: int | None = None,
        period_ns: int | None = None,
        times_ns: ArrayLike | None = None,
    ) -> None:
        """Takes equally long columns by channel name, with either equal steps or a time in nanoseconds for each sample.

        Arrays (not to be changed before this returns) or lists. float64 and float32 are stored exactly; integers of any
        width make an integer channel, and a channel is one or the other for good. Sends of any length are cut into
        batches. Returns when the samples are in the buffer, which means at once unless it is full.
        ValueError: columns that do not fit; nothing of the send is taken then.
        """
        columns = self._channels.columns(values)
        times = as_times(next(iter(columns.values())).size, start_ns, period_ns, times_ns)
        for batch in split(columns, times, checksum=self._checksum):
            await self._until(partial(self._buffer.has_room, batch))
            self._buffer.add(batch)
            self.sent_samples += batch.samples
            self.sent_bytes += len(batch.series)
            self._lane.wake()

    async def flush(self) -> None:
        """Waits until all that was sent before is acknowledged: committed, or rejected for good."""
        await self._until(partial(self._buffer.is_settled, self._buffer.newest_position))

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._lane.run(), name="rigmesh stream")
        self._task.add_done_callback(lambda _: self._progress.set())
        try:
            async with asyncio.timeout(self._open_timeout_s):
                await self._until(lambda: self.epoch > 0)
        except TimeoutError:
            await self._stop()
            raise NotConnected(f"not open after {self._open_timeout_s} s: {self._lane.last_problem}") from None
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._task is not None:
                self._lane.finish()
                await asyncio.shield(self._task)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._task is None:
                raise RuntimeError("a SensorStream is used inside `async with`")
            if self._task.done():
                self._task.result()  # raises what ended it
                raise RuntimeError("the stream is finished")
            self._progress.clear()
            await self._progress.wait()
