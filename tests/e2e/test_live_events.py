"""StreamTelemetry as server-sent events, while a device streams through the same edge."""

import json
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from rigmesh_client import Channel, Connection, SensorStream, connect
from tests.conftest import Caller, Lab, Rig
from tests.e2e.conftest import Recording, RestAs
from tests.e2e.processes import pid_of, until_back
from tests.e2e.rest import Events, Rest
from tests.sign_in import PASSWORD, sign_in

MS = 1_000_000
REVOKED_S = 5.0


@pytest.fixture
async def device(edge: str, recording: Recording) -> AsyncIterator[Connection]:
    async with connect(edge, recording.token) as connection:
        yield connection


async def send(stream: SensorStream, first: int, count: int = 50) -> None:
    """Values that count up, committed when this returns."""
    values = np.arange(first, first + count, dtype=np.float64)
    await stream.send({"ax": values}, start_ns=1_700_000_000 * 10**9 + first * MS, period_ns=MS)
    await stream.flush()


async def values_of(events: Events, count: int) -> tuple[list[float], str]:
    """The next `count` values, and the token after them."""
    values, token = list[float](), ""
    while len(values) < count:
        message = await events.next()
        assert message is not None, "the answer ended"
        values += message.get("chunk", {}).get("values", [])
        token = message["resume_token"]
    return values, token


async def test_samples_come_while_they_are_sent_and_a_token_goes_on(
    rest: RestAs, lab: Lab, recording: Recording, device: Connection
) -> None:
    viewer, query = rest(lab.viewer), {"run_id": recording.run_id, "view": "RAW"}
    async with SensorStream(device, "imu", [Channel("ax", "g")]) as stream:
        await send(stream, 0)
        async with viewer.events("/telemetry/stream", **query, start_at="2020-01-01T00:00:00Z") as events:
            assert "heartbeat" in await _history(events)
            await send(stream, 50)
            assert (await values_of(events, 50))[0] == list(range(50, 100))
            await send(stream, 100)
            values, token = await values_of(events, 50)
            assert values == list(range(100, 150))
        await send(stream, 150)
        async with viewer.events("/telemetry/stream", **query, resume_token=token) as events:
            await send(stream, 200)
            assert (await values_of(events, 100))[0] == list(range(150, 250))


async def _history(events: Events) -> Any:
    """The message that ends the history, once all of it came."""
    values = list[float]()
    async for message in events:
        if "chunk" not in message:
            assert values == list(range(50))
            return message
        values += message["chunk"]["values"]
    raise AssertionError("the answer ended within the history")


async def test_a_stopping_server_says_so_in_band(
    rest: RestAs, lab: Lab, recording: Recording, device: Connection, rig: Rig
) -> None:
    viewer, query = rest(lab.viewer), {"channels": recording.channel("ax"), "view": "RAW"}
    async with SensorStream(device, "imu", [Channel("ax", "g")]) as stream:
        await send(stream, 0)
        async with viewer.events("/telemetry/stream", **query) as events:
            await events.until("heartbeat")
            await send(stream, 50)
            assert (await values_of(events, 50))[0] == list(range(50, 100))
            os.kill(pid_of(rig.pid, "serve", "telemetry"), signal.SIGTERM)
            end = await events.until("end")
            assert end["end"] == {"cause": "DRAINING", "samples": "50", "chunks": "1"}
            assert await events.next() is None
        await until_back(rig)
        await send(stream, 100)
        async with viewer.events("/telemetry/stream", **query, resume_token=end["resume_token"]) as events:
            assert (await values_of(events, 50))[0] == list(range(100, 150))


async def test_a_revoked_token_ends_the_answer_in_band(rest: RestAs, lab: Lab, recording: Recording, rig: Rig) -> None:
    token_id, reader = await second_token(rest, lab.viewer, rig)
    async with reader.events("/telemetry/stream", run_id=recording.run_id) as events:
        await events.until("heartbeat")
        assert (await rest(lab.viewer).ask("DELETE", f"/api-tokens/{token_id}")).status == 200
        revoked_at = time.monotonic()
        error = (await events.until("error"))["error"]
        assert time.monotonic() - revoked_at < REVOKED_S
        [reason] = [detail["reason"] for detail in error["details"] if "reason" in detail]
        assert (error["code"], reason) == (16, "UNAUTHENTICATED")
        assert await events.next() is None
    assert (await reader.ask("GET", "/auth/me")).status == 401


async def second_token(rest: RestAs, caller: Caller, rig: Rig) -> tuple[str, Rest]:
    """Another API token of a caller: its id, and its REST side."""
    _, token = await sign_in(rig.channel, caller.username, PASSWORD, ["READ"])
    newest = (await rest(caller).get("/api-tokens", page_size=1))["api_tokens"][0]
    return newest["api_token_id"], rest(token)


async def test_a_token_of_another_selection_is_refused_before_anything_is_sent(
    rest: RestAs, lab: Lab, recording: Recording
) -> None:
    viewer = rest(lab.viewer)
    async with viewer.events("/telemetry/stream", run_id=recording.run_id) as events:
        token = (await events.next())["resume_token"]
    path = f"/telemetry/stream?capture_session_id={recording.capture_session_id}&resume_token={token}"
    answer = await viewer.ask("GET", path)
    assert answer.status == 400, answer.body
    assert json.loads(answer.body)["code"] == 3
