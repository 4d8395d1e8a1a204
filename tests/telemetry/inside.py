"""The reading side in the test's own process, on the rig's database: limits can be made small there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.db.pool import open_pools
from services.rpc.call import Call, Kind, Principal
from services.settings import Settings
from services.telemetry.reads.service import TelemetryService
from services.telemetry.reads.tail import Tail


@asynccontextmanager
async def reading(rig: Any, bench: Any) -> AsyncIterator[tuple[TelemetryService, Call, asyncio.Event]]:
    """The service, a call of the lab's viewer, and what tells the service to stop."""
    stopping = asyncio.Event()
    async with open_pools(Settings(), rig.database_url) as pools:
        principal = Principal(Kind.API_TOKEN, user_id=bench.lab.viewer.user_id)
        yield TelemetryService(Tail(rig.database_url), stopping), Call(principal, "r", "", bytes(32), pools), stopping
