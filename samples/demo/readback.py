"""Reads a recording back as any REST client would, server-sent events through Envoy, and compares it bit by bit."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray

from samples.demo.recordings import Recording
from samples.demo.study import scale

TIMEOUT_S = 60.0

Columns = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]


class ReadError(Exception):
    """The answer is an error or not complete."""


def read(endpoint: str, token: str, capture_session_id: str, view: str) -> Columns:
    """Times and values by signal. ReadError: an error, or no end message. Blocks: to be called in a thread."""
    query = urlencode({"capture_session_id": capture_session_id, "view": view})
    http = HTTPConnection(urlsplit(endpoint).netloc, timeout=TIMEOUT_S)
    try:
        http.request("GET", f"/api/v1/telemetry/query?{query}", headers={"authorization": f"Bearer {token}"})
        answer = http.getresponse()
        if answer.status != 200:
            raise ReadError(f"HTTP {answer.status}: {answer.read(1000).decode(errors='replace')}")
        return _collect(json.loads(line[5:]) for line in answer if line.startswith(b"data:"))
    finally:
        http.close()


def differences(recording: Recording, raw: Columns, physical: Columns) -> list[str]:
    """What did not come back as it was sent; empty = every time and value is identical."""
    found = []
    for signal, sent in recording.values.items():
        for view, columns, expected in (("raw", raw, sent), ("physical", physical, scale(signal) * sent)):
            times, values = columns.get(signal, (np.empty(0, np.int64), np.empty(0)))
            if not np.array_equal(times, recording.time_ns):
                found.append(f"{recording.name}: {view} times of {signal} differ")
            if values.tobytes() != expected.tobytes():
                found.append(f"{recording.name}: {view} values of {signal} differ")
    return found


def _collect(messages: Iterator[dict[str, dict[str, object]]]) -> Columns:
    parts: dict[str, list[tuple[object, object]]] = {}
    for message in messages:
        if "error" in message:
            raise ReadError(f"the answer broke off: {message['error'].get('message')}")
        if "end" in message:
            return {signal: _join(of_signal) for signal, of_signal in parts.items()}
        chunk = message["chunk"]
        signal = str(chunk["channel"]).partition("/")[2]
        parts.setdefault(signal, []).append((chunk["time_ns"], chunk["values"]))
    raise ReadError("the answer ended without its end message")


def _join(parts: list[tuple[object, object]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    times = [np.array(times, np.int64) for times, _ in parts]  # JSON has 64-bit integers as strings
    values = [np.array(values, np.float64) for _, values in parts]  # and "NaN" as one
    return np.concatenate(times), np.concatenate(values)
