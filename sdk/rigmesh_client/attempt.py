"""One TelemetryIngest call: from Open to its end, whatever ends it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from rigmesh.v1.telemetry_ingest_pb2 import Bind, Finish, Finished, Open, Opened, Reject
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestRequest, TelemetryIngestResponse
from rigmesh_client.batches import frame
from rigmesh_client.buffer import SendBuffer
from rigmesh_client.channels import ChannelTable
from rigmesh_client.connection import IngestCall
from rigmesh_client.errors import error_reason
from rigmesh_client.rejects import RejectLog

OPENED_WITHIN_S = 30.0
# what is in flight for so long without any Ack is sent again on a new call
ACK_WITHIN_S = 60.0
# what a write raises on a call that is over; the call itself then knows why
CALL_IS_OVER = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended."""

    code: grpc.StatusCode
    reason: str
    details: str


class IngestAttempt:
    """Writes what the buffer lets through and takes in what the server says, until either side ends the call.

    What is sent, acknowledged and rejected is kept by the stream's own buffer and log, which outlive the call.
    """

    def __init__(
        self,
        call: IngestCall,
        buffer: SendBuffer,
        channels: ChannelTable,
        rejects: RejectLog,
        read_clock_ns: Callable[[], int],
        on_progress: Callable[[], None],
    ):
        self._call = call
        self._buffer = buffer
        self._channels = channels
        self._rejects = rejects
        self._read_clock_ns = read_clock_ns
        self._on_progress = on_progress
        self._wake = asyncio.Event()
        self._bound = 0
        self._finishing = False
        self._draining = False
        self._stalled = False
        self._waiting_since_s = 0.0
        self._finish_sent = False
        self.opened: Opened | None = None
        self.refused: list[Reject] = []
        """Bindings of Open that were refused."""
        self.finished: Finished | None = None
        self.acknowledged = False
        """Whether an Ack came."""

    def wake(self, *, finishing: bool) -> None:
        """There is something new to send, or, when finishing, nothing will follow."""
        self._finishing = finishing
        self._wake.set()

    async def run(self, opening: Open, *, whole: bool) -> Ending:
        """Opens, streams, and says how it ended. Never raises what the network does.

        whole: stream only if every channel was bound.
        """
        try:
            async with asyncio.timeout(OPENED_WITHIN_S):
                await self._open(opening)
            if self.opened is not None and not (whole and self.refused):
                await self._stream()
        except TimeoutError:
            return Ending(grpc.StatusCode.DEADLINE_EXCEEDED, "", f"no answer to Open within {OPENED_WITHIN_S:.0f} s")
        finally:
            self._call.cancel()
        if self._stalled:
            return Ending(grpc.StatusCode.DEADLINE_EXCEEDED, "", f"no Ack within {ACK_WITHIN_S:.0f} s")
        code, details = await self._call.code(), await self._call.details()
        return Ending(code, error_reason(await self._call.trailing_metadata()), details or "")

    async def _open(self, opening: Open) -> None:
        self._bound = len(self._channels.bindings)
        opening.channels.extend(self._channels.bindings)
        try:
            await self._call.write(TelemetryIngestRequest(open=opening).SerializeToString())
            answer = await self._call.read()
        except CALL_IS_OVER:
            return
        if isinstance(answer, TelemetryIngestResponse) and answer.WhichOneof("frame") == "opened":
            await self._read_refused(len(opening.channels) - len(answer.opened.channels))
            self.opened = answer.opened
            self._channels.note_sessions(answer.opened.channels)
            self._buffer.rewind(answer.opened.cursor)
            self._buffer.set_window(answer.opened.limits.window)
            self._on_progress()

    async def _read_refused(self, count: int) -> None:
        """The Rejects of bindings, which follow Opened at once."""
        while len(self.refused) < count and isinstance(answer := await self._call.read(), TelemetryIngestResponse):
            self._take(answer)
            if answer.HasField("reject"):
                self.refused.append(answer.reject)

    async def _stream(self) -> None:
        self._waiting_since_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            aside = [tasks.create_task(self._write()), tasks.create_task(self._watch())]
            await self._read()
            for task in aside:
                task.cancel()

    async def _watch(self) -> None:
        """Ends the call when the other side has gone silent with something of ours: no error would ever tell."""
        loop = asyncio.get_running_loop()
        while True:
            waiting = self._finish_sent or self._buffer.in_flight
            self._waiting_since_s = self._waiting_since_s if waiting else loop.time()
            left_s = self._waiting_since_s + ACK_WITHIN_S - loop.time()
            if left_s <= 0:
                self._stalled = True
                self._call.cancel()
                return
            await asyncio.sleep(min(left_s, ACK_WITHIN_S / 10))

    async def _write(self) -> None:
        try:
            while not self._draining:
                self._wake.clear()
                await self._write_batches()
                if self._finishing and self._buffer.all_sent():
                    finish = Finish(last_seq=self._buffer.last_seq)
                    self._finish_sent = True
                    await self._call.write(TelemetryIngestRequest(finish=finish).SerializeToString())
                    await self._call.done_writing()
                    return
                await self._wake.wait()
        except CALL_IS_OVER:
            return  # reading ends too

    async def _write_batches(self) -> None:
        while not self._draining and (sending := self._buffer.next_to_send()):
            if new := self._channels.bindings[self._bound :]:
                self._bound += len(new)
                await self._call.write(TelemetryIngestRequest(bind=Bind(channels=new)).SerializeToString())
            seq, batch = sending
            await self._call.write(frame(seq, self._read_clock_ns(), batch))

    async def _read(self) -> None:
        try:
            while isinstance(answer := await self._call.read(), TelemetryIngestResponse):
                self._take(answer)
                self._wake.set()
                self._on_progress()
        except CALL_IS_OVER:
            return
        except asyncio.CancelledError:
            if not self._stalled:  # else it is our own cancellation of the call
                raise

    def _take(self, answer: TelemetryIngestResponse) -> None:
        match answer.WhichOneof("frame"):
            case "ack":
                self.acknowledged = True
                self._waiting_since_s = asyncio.get_running_loop().time()
                self._buffer.acknowledge(answer.ack.committed_through, answer.ack.ranges)
            case "reject":
                reject = answer.reject
                whole = f"batch {reject.seq}"
                self._rejects.add(reject, self._channels.name(reject.alias) if reject.HasField("alias") else whole)
            case "bound":
                self._channels.note_sessions(answer.bound.channels)
            case "window":
                self._buffer.set_window(answer.window)
            case "drain":
                self._draining = True
            case "finished":
                self.finished = answer.finished
