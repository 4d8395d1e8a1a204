"""A device for tests: speaks the ingest protocol frame by frame, so that tests can break its rules."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestRequest, TelemetryIngestResponse
from rigmesh.v1.telemetry_ingest_service_pb2_grpc import TelemetryIngestServiceStub

ANSWER_S = 20.0


class Device:
    """One open stream."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, **frame: Any) -> None:
        await self.call.write(TelemetryIngestRequest(**frame))

    async def next(self) -> TelemetryIngestResponse | None:
        """The next frame of the server; None at the end of the stream. Raises grpc.aio.AioRpcError."""
        async with asyncio.timeout(ANSWER_S):
            response = await self.call.read()
        if response is grpc.aio.EOF:
            code = await self.call.code()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    code,
                    await self.call.initial_metadata(),
                    await self.call.trailing_metadata(),
                    await self.call.details(),
                )
            return None
        return response

    async def expect(self, kind: str) -> Any:
        """The next frame, which must be of this kind."""
        response = await self.next()
        assert response is not None, f"the stream ended before {kind}"
        assert response.WhichOneof("frame") == kind, response
        return getattr(response, kind)

    async def acked(self, seq: int) -> pb.Ack:
        """The first Ack that covers `seq`; other frames before it fail the test."""
        while True:
            ack = await self.expect("ack")
            if ack.committed_through >= seq:
                return ack

    async def finish(self, last_seq: int) -> pb.Finished:
        """Finishes and returns the answer, past any Acks."""
        await self.send(finish=pb.Finish(last_seq=last_seq))
        while (response := await self.next()) is not None:
            if response.WhichOneof("frame") == "finished":
                return response.finished
        raise AssertionError("the stream ended without Finished")


@asynccontextmanager
async def opened(
    address: str, token: str, channels: Sequence[pb.ChannelBinding], **fields: Any
) -> AsyncIterator[tuple[Device, pb.Opened]]:
    """A device whose stream is open."""
    async with grpc.aio.insecure_channel(address) as channel:
        device = Device(
            TelemetryIngestServiceStub(channel).TelemetryIngest(metadata=(("authorization", f"Bearer {token}"),))
        )
        await device.send(open=pb.Open(**{"producer": "imu", "channels": channels, **fields}))
        yield device, await device.expect("opened")
        device.call.cancel()


def regular(alias: int, start_ns: int, values: Sequence[float], period_ns: int = 1_000_000) -> pb.Series:
    return pb.Series(
        alias=alias, regular=pb.Regular(start_ns=start_ns, period_ns=period_ns), doubles=pb.Doubles(values=values)
    )
