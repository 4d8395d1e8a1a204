"""Sample blocks: a series as one row of `sample_blocks`, in PostgreSQL's binary COPY format.

Arrays are built by numpy (a big-endian length and value per element), so that no sample becomes a Python object. The
format is PostgreSQL's: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format", and array_send.
"""

import struct
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from services.telemetry.series import Samples, Times, Values

PG_EPOCH_US = 946_684_800 * 10**6
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = b"\xff\xff"
# The first two differ from commit to commit; a row is their bytes (`row_head`) and what was encoded before.
COLUMNS = (
    "commit_id, late, placed_at, span_ns, start_ns, offset_ns, period_ns, lane_id, seq, received_at, v_count, n, "
    "channel_id, clock_id, v_min, v_max, v_sum, capture_session_id, residuals_i4, residuals_i8, values_f8, values_i8"
)
_HEAD = struct.Struct(">hiqi?")
_FIXED = struct.Struct(">" + "iq" * 8 + "ii" * 4)
_STATS = struct.Struct(">ididid")
_NULL = struct.pack(">i", -1)
_INT4, _INT8, _FLOAT8 = (np.dtype([("length", ">i4"), ("value", kind)]) for kind in (">i4", ">i8", ">f8"))
_OIDS = {_INT4: 23, _INT8: 20, _FLOAT8: 701}
_ARRAY_HEAD = struct.Struct(">iiiIii")
_ARRAY_HEAD_BYTES = _ARRAY_HEAD.size - 4  # a loader sees the value without its length


@dataclass(frozen=True)
class Origin:
    """Where a block comes from. Times in nanoseconds; `offset_ns` leads from device time to the common axis."""

    channel_id: int
    capture_session_id: str
    lane_id: int
    seq: int
    clock_id: int
    offset_ns: int
    received_ns: int


@dataclass(frozen=True)
class Block:
    """An encoded row, and what the commit must know of it. Placed times in microseconds since 1970."""

    channel_id: int
    capture_session_id: str
    n: int
    span_ns: int
    placed_us: int
    until_us: int
    v_min: float | None
    v_max: float | None
    row: bytes


def encode(origin: Origin, samples: Samples) -> Block:
    """Encodes a series. Lossless: times to the nanosecond, values to the bit."""
    time_ns, values = samples.time_ns, samples.values
    first, last = _extent(samples)
    start_ns, n = int(time_ns[0]), len(values)
    period_ns = samples.period_ns if samples.period_ns is not None else (int(time_ns[-1]) - start_ns) // max(n - 1, 1)
    v_min, v_max, v_sum, v_count = _statistics(values)
    placed_us = (first + origin.offset_ns) // 1000
    fixed = _FIXED.pack(
        8, placed_us - PG_EPOCH_US, 8, last - first, 8, start_ns, 8, origin.offset_ns, 8, period_ns,
        8, origin.lane_id, 8, origin.seq, 8, origin.received_ns // 1000 - PG_EPOCH_US,
        4, v_count, 4, n, 4, origin.channel_id, 4, origin.clock_id,
    )  # fmt: skip
    stats = _NULL * 3 if v_min is None else _STATS.pack(8, v_min, 8, v_max, 8, v_sum)
    session = struct.pack(">i", 16) + UUID(origin.capture_session_id).bytes if origin.capture_session_id else _NULL
    row = b"".join((fixed, stats, session, _residuals(samples, start_ns, period_ns), _value_columns(values)))
    until_us = -((-last - origin.offset_ns) // 1000)
    return Block(origin.channel_id, origin.capture_session_id, n, last - first, placed_us, until_us, v_min, v_max, row)


def row_head(commit_id: int, late: bool) -> bytes:
    """The beginning of each row of a commit."""
    return _HEAD.pack(22, 8, commit_id, 1, late)


def load_array(data: bytes | bytearray | memoryview, integer_bytes: int | None) -> Values:
    """A one-dimensional array without nulls from PostgreSQL's binary form: int4 or int8 by size, None = float8."""
    dtype = {4: _INT4, 8: _INT8, None: _FLOAT8}[integer_bytes]
    elements = np.frombuffer(data, dtype, offset=_ARRAY_HEAD_BYTES)
    if integer_bytes is None:
        return elements["value"].astype(np.float64)
    return elements["value"].astype(np.int64)


def device_times(start_ns: int, period_ns: int, residuals: Times | None, n: int) -> Times:
    """The device times of a block, as they were sent."""
    time_ns = np.arange(n, dtype=np.int64) * period_ns + start_ns
    return time_ns if residuals is None else time_ns + residuals


def _extent(samples: Samples) -> tuple[int, int]:
    if samples.period_ns is not None:
        return int(samples.time_ns[0]), int(samples.time_ns[-1])
    return int(samples.time_ns.min()), int(samples.time_ns.max())


def _statistics(values: Values) -> tuple[float | None, float, float, int]:
    low = float(values.min())
    if low == low:
        with np.errstate(invalid="ignore", over="ignore"):
            return low, float(values.max()), float(values.sum(dtype=np.float64)), len(values)
    numbers = values[~np.isnan(values)]
    return _statistics(numbers) if len(numbers) else (None, 0.0, 0.0, 0)


def _residuals(samples: Samples, start_ns: int, period_ns: int) -> bytes:
    if samples.period_ns is not None:
        return _NULL * 2
    n = len(samples.time_ns)
    residuals = samples.time_ns - start_ns - np.arange(n, dtype=np.int64) * period_ns
    low, high = int(residuals.min()), int(residuals.max())
    if low == high == 0:
        return _NULL * 2
    if low >= -(2**31) and high < 2**31:
        return _array(_INT4, residuals) + _NULL
    return _NULL + _array(_INT8, residuals)


def _value_columns(values: Values) -> bytes:
    if values.dtype == np.float64:
        return _array(_FLOAT8, values) + _NULL
    return _NULL + _array(_INT8, values)


def _array(dtype: np.dtype[np.void], values: Values) -> bytes:
    elements = np.empty(len(values), dtype)
    elements["length"] = dtype.itemsize - 4
    elements["value"] = values
    size = _ARRAY_HEAD_BYTES + elements.nbytes
    return _ARRAY_HEAD.pack(size, 1, 0, _OIDS[dtype], len(values), 1) + elements.tobytes()
