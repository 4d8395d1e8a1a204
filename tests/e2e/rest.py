"""REST as programs and browsers speak it: JSON in and out, and server-sent events, all through the edge."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode

from tests.envoy.edge_calls import Answer, call_to

EVENT_S = 20.0


@dataclass(frozen=True)
class Rest:
    """One caller. `headers` go along with each call; paths are those under /api/v1."""

    address: str
    headers: dict[str, str] = field(default_factory=dict)

    def having(self, **headers: str) -> "Rest":
        """The same caller with more headers."""
        return Rest(self.address, self.headers | headers)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """The answer, whatever it is. A body of bytes is sent as it is, anything else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if data is None else {"content-type": "application/json"}
        send = call_to(self.address)
        return await asyncio.to_thread(send, method, f"/api/v1{path}", data, **kind | self.headers | headers)

    async def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON, which must be a success."""
        return _ok(await self.ask("GET", with_query(path, **query)))

    async def post(self, path: str, **fields: Any) -> Any:
        """The answer's JSON, which must be a success."""
        return _ok(await self.ask("POST", path, fields))

    async def patch(self, path: str, **fields: Any) -> Any:
        """The answer's JSON, which must be a success."""
        return _ok(await self.ask("PATCH", path, fields))

    @asynccontextmanager
    async def events(self, path: str, **query: Any) -> AsyncIterator["Events"]:
        """An answer of server-sent events that has begun."""
        connection = HTTPConnection(self.address, timeout=EVENT_S)
        try:
            target = f"/api/v1{with_query(path, **query)}"
            await asyncio.to_thread(connection.request, "GET", target, headers=self.headers)
            response = await asyncio.to_thread(connection.getresponse)
            assert response.status == 200, response.read()
            assert response.headers["content-type"] == "text/event-stream"
            yield Events(response)
        finally:
            connection.close()


class Events:
    """The messages of one answer, as they come."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response

    async def next(self) -> Any:
        """The next message; None at the end of the answer."""
        line = await asyncio.to_thread(self._response.readline)
        if not line:
            return None
        prefix, _, text = line.decode().partition(" ")
        assert prefix == "data:", line
        assert await asyncio.to_thread(self._response.readline) == b"\n"
        # A whole number is an int in Python, and an int has no sign of zero.
        return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))

    async def rest(self) -> list[Any]:
        """All messages up to the end."""
        return [message async for message in self]

    async def until(self, kind: str) -> Any:
        """The first message of a kind; those before it are left out."""
        async for message in self:
            if kind in message:
                return message
        raise AssertionError(f"the answer ended without {kind}")

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.next()) is not None:
            yield message


def with_query(path: str, **query: Any) -> str:
    """A path with its query; a list is a repeated parameter."""
    return f"{path}?{urlencode(query, doseq=True, quote_via=quote)}" if query else path


def error_of(answer: Answer, kind: str) -> dict[str, Any]:
    """The one detail of this kind, such as "BadRequest", in the JSON of an error."""
    [found] = [one for one in json.loads(answer.body)["details"] if one["@type"].endswith(f"google.rpc.{kind}")]
    return dict(found)


def _ok(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.body)
