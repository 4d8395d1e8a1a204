"""A long answer ends early when the server stops, or when its reader may not see all of it any more."""

import asyncio
import time
from collections.abc import Sequence

import psycopg

from rigmesh.v1.error_reason_pb2 import DRAINING
from rigmesh.v1.telemetry_service_pb2 import QueryTelemetryRequest
from services.errors import Unavailable, not_found
from services.rpc.call import Call
from services.telemetry.reads.selection import SelectedChannel, Selector, select_channels

RECHECK_S = 3.0


class Watch:
    """Looks again, while a snapshot is read that does not change, at what the reader may see now."""

    def __init__(
        self, call: Call, request: Selector, channels: Sequence[SelectedChannel], stopping: asyncio.Event
    ) -> None:
        self._call, self._stopping = call, stopping
        # By name: more channels of a session, come since, must not count.
        self._request = QueryTelemetryRequest(
            channels=[channel.channel for channel in channels],
            capture_session_id=request.capture_session_id,
            run_id=request.run_id,
        )
        self._seen = _visible(channels)
        self._checked_at = time.monotonic()

    async def check(self) -> None:
        """Unavailable when the server stops; NotFound when samples are not the reader's any more."""
        if self._stopping.is_set():
            raise Unavailable(DRAINING, "the server is stopping: ask again", retry_after_s=1.0)
        if time.monotonic() - self._checked_at > RECHECK_S:
            await self._recheck()
            self._checked_at = time.monotonic()

    async def _recheck(self) -> None:
        try:
            async with self._call.pools.read.connection() as db:
                channels = await select_channels(db, self._call.principal.user_id, self._request)
        except psycopg.OperationalError:  # away, or busy: asked again in a moment
            return
        for channel, _ in self._seen - _visible(channels):
            raise not_found("channel", channel)


def _visible(channels: Sequence[SelectedChannel]) -> set[tuple[str, str | None]]:
    return {(channel.channel, session) for channel in channels for session in channel.sessions}
