"""HTTP calls as the tests of the edge make them."""

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, NamedTuple

DEADLINE_S = 10.0


class Answer(NamedTuple):
    """An HTTP answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """The reason in the one ErrorInfo of an error."""
        details: list[dict[str, Any]] = json.loads(self.body)["details"]
        [info] = [one for one in details if one["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"]
        assert info["domain"] == "rigmesh"
        return str(info["reason"])


Call = Callable[..., Answer]


def call_to(address: str) -> Call:
    """A function (method, path, body, **headers) -> Answer; underscores in header names stand for hyphens."""

    def send(method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = HTTPConnection(address, timeout=DEADLINE_S)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lowered, response.read())
        finally:
            connection.close()

    return send
