"""The usual way to store samples, to compare with: one row each, in PostgreSQL's binary COPY format."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.walk import AGE_NS, PERIOD_NS, Walk
from services.telemetry.blocks import COPY_HEADER, COPY_TRAILER, PG_EPOCH_US

# As lean as a row can be that says of a sample what its block says.
TABLE = """CREATE TABLE bench_copy (placed_at timestamptz NOT NULL, device_ns bigint NOT NULL,
        value double precision NOT NULL, channel_id int NOT NULL, session_id int NOT NULL);
    CREATE INDEX ON bench_copy (channel_id, placed_at DESC)"""
COLUMNS = "placed_at, device_ns, value, channel_id, session_id"
_KINDS = {"placed_at": ">i8", "device_ns": ">i8", "value": ">f8", "channel_id": ">i4", "session_id": ">i4"}
_ROW = np.dtype(
    [("fields", ">i2")] + [field for name, kind in _KINDS.items() for field in ((f"{name}_bytes", ">i4"), (name, kind))]
)
_SERIES_SAMPLES = 1000


def groups(channels: Sequence[int], size_bytes: int) -> Iterator[bytes]:
    """Payloads of about that size, one after the other in time; each channel's samples come in runs of 1000."""
    start_ns = time.time_ns() - AGE_NS
    walks = {channel: Walk(channel, _SERIES_SAMPLES, start_ns) for channel in channels}
    series_each = max(1, size_bytes // (_ROW.itemsize * _SERIES_SAMPLES * len(channels)))
    table = np.empty((series_each, len(channels), _SERIES_SAMPLES), _ROW)
    for number in range(series_each):
        for part, (channel, walk) in zip(table[number], walks.items(), strict=True):
            _fill(part, channel, *walk.series(number))
    span_ns = series_each * _SERIES_SAMPLES * PERIOD_NS
    while True:
        yield b"".join((COPY_HEADER, table.tobytes(), COPY_TRAILER))
        table["device_ns"] += span_ns
        table["placed_at"] += span_ns // 1000


def _fill(table: NDArray[np.void], channel: int, times_ns: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    table["fields"] = len(_KINDS)
    for name in _KINDS:
        table[f"{name}_bytes"] = _ROW[name].itemsize
    table["placed_at"] = times_ns // 1000 - PG_EPOCH_US
    table["device_ns"] = times_ns
    table["value"] = values
    table["channel_id"] = channel
    table["session_id"] = 1
