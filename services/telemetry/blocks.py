"""Sample blocks: a series as one row of `sample_blocks`, in PostgreSQL's binary COPY format.

Arrays are built by numpy (a big-endian length and value per element), for all series of a commit at once: no sample
becomes a Python object, and numpy's cost by the call is shared. The format is PostgreSQL's:
 https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format", and array_send.
"""

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from services.telemetry.series import Samples, Times, Values

PG_EPOCH_US = 946_684_800 * 10**6
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = b"\xff\xff"
# The first two differ from commit to commit; a row is their bytes (`row_head`) and what was encoded before.
COLUMNS = (
    "commit_id, late, placed_at, span_ns, start_ns, offset_ns, period_ns, lane_id, seq, received_at, v_count, n, "
    "channel_id, clock_id, part, v_min, v_max, v_sum, capture_session_id, residuals_i4, residuals_i8, values_f8, "
    "values_i8"
)
_HEAD = struct.Struct(">hiqi?")
_FIXED = struct.Struct(">" + "iq" * 8 + "ii" * 5)
_STATS = struct.Struct(">ididid")
_NULL = struct.pack(">i", -1)
_INT4, _INT8, _FLOAT8 = (np.dtype([("length", ">i4"), ("value", kind)]) for kind in (">i4", ">i8", ">f8"))
_OIDS = {_INT4: 23, _INT8: 20, _FLOAT8: 701}
_ARRAY_HEAD = struct.Struct(">iiiIii")
_ARRAY_HEAD_BYTES = _ARRAY_HEAD.size - 4  # a loader sees the value without its length


@dataclass(slots=True)
class Origin:
    """Where a batch comes from. Times in nanoseconds; `offset_ns` leads from device time to the common axis."""

    lane_id: int
    seq: int
    clock_id: int
    offset_ns: int
    received_ns: int


@dataclass(slots=True)
class Input:
    """A series to encode. `part` counts the series of its batch; the session may be empty."""

    origin: Origin
    part: int
    channel_id: int
    capture_session_id: str
    samples: Samples


@dataclass(slots=True)
class Block:
    """An encoded row, and what the commit must know of it. Placed times of its first and last sample in nanoseconds."""

    channel_id: int
    capture_session_id: str
    n: int
    first_ns: int
    last_ns: int
    v_min: float | None
    v_max: float | None
    row: bytes

    @property
    def span_ns(self) -> int:
        return self.last_ns - self.first_ns

    @property
    def placed_us(self) -> int:
        return self.first_ns // 1000

    @property
    def until_us(self) -> int:
        """The last time, rounded up."""
        return -(-self.last_ns // 1000)


def encode(inputs: Sequence[Input]) -> list[Block]:
    """Encodes series, all of one kind of values. Lossless: times to the nanosecond, values to the bit."""
    lengths = np.array([len(one.samples.values) for one in inputs])
    begins = lengths.cumsum() - lengths
    time_ns: Times = _joined([one.samples.time_ns for one in inputs])
    values = _joined([one.samples.values for one in inputs])
    period_ns = _periods(inputs, time_ns, begins, lengths)
    v_min, v_max, v_sum, v_count = _statistics(values, begins, lengths)
    columns = zip(
        inputs,
        lengths.tolist(),
        time_ns[begins].tolist(),
        np.minimum.reduceat(time_ns, begins).tolist(),
        np.maximum.reduceat(time_ns, begins).tolist(),
        period_ns.tolist(),
        zip(v_min.tolist(), v_max.tolist(), v_sum.tolist(), v_count.tolist(), strict=True),
        _residuals(inputs, time_ns, begins, lengths, period_ns),
        _value_columns(values, begins, lengths),
        strict=True,
    )
    return [_block(*column) for column in columns]


def _block(
    one: Input,
    n: int,
    start_ns: int,
    first_ns: int,
    last_ns: int,
    period_ns: int,
    statistics: tuple[float, float, float, int],
    *arrays: tuple[bytes | memoryview, ...],
) -> Block:
    origin, (low, high, total, count) = one.origin, statistics
    first_ns, last_ns = first_ns + origin.offset_ns, last_ns + origin.offset_ns
    fixed = _FIXED.pack(
        8, first_ns // 1000 - PG_EPOCH_US, 8, last_ns - first_ns, 8, start_ns, 8, origin.offset_ns, 8, period_ns,
        8, origin.lane_id, 8, origin.seq, 8, origin.received_ns // 1000 - PG_EPOCH_US,
        4, count, 4, n, 4, one.channel_id, 4, origin.clock_id, 4, one.part,
    )  # fmt: skip
    stats = _STATS.pack(8, low, 8, high, 8, total) if count else _NULL * 3
    row = b"".join((fixed, stats, _session(one.capture_session_id), *arrays[0], *arrays[1]))
    session_id = one.capture_session_id
    return Block(one.channel_id, session_id, n, first_ns, last_ns, low if count else None, high if count else None, row)


def row_head(commit_id: int, late: bool) -> bytes:
    """The beginning of each row of a commit."""
    return _HEAD.pack(23, 8, commit_id, 1, late)


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


def _joined(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@functools.lru_cache(maxsize=4096)
def _session(capture_session_id: str) -> bytes:
    return struct.pack(">i", 16) + UUID(capture_session_id).bytes if capture_session_id else _NULL


def _periods(inputs: Sequence[Input], time_ns: Times, begins: Times, lengths: Times) -> Times:
    """Of a regular series its own, else the mean step."""
    steps = (time_ns[begins + lengths - 1] - time_ns[begins]) // np.maximum(lengths - 1, 1)
    given = [one.samples.period_ns for one in inputs]
    return np.array([step if own is None else own for own, step in zip(given, steps.tolist(), strict=True)], np.int64)


def _residuals(
    inputs: Sequence[Input], time_ns: Times, begins: Times, lengths: Times, period_ns: Times
) -> list[tuple[bytes | memoryview, ...]]:
    """The columns residuals_i4 and residuals_i8 of each series: at most one is set."""
    if all(one.samples.period_ns is not None for one in inputs):
        return [(_NULL * 2,)] * len(inputs)
    index = np.arange(len(time_ns)) - begins.repeat(lengths)
    residuals = time_ns - time_ns[begins].repeat(lengths) - period_ns.repeat(lengths) * index
    lows, highs = np.minimum.reduceat(residuals, begins).tolist(), np.maximum.reduceat(residuals, begins).tolist()
    narrow = _elements(_INT4, residuals)
    rows: list[tuple[bytes | memoryview, ...]] = []
    for low, high, begin, n in zip(lows, highs, begins.tolist(), lengths.tolist(), strict=True):
        if low == high == 0:
            rows.append((_NULL * 2,))
        elif low >= -(2**31) and high < 2**31:
            rows.append((*_array(_INT4, narrow, begin, n), _NULL))
        else:
            rows.append((_NULL, *_array(_INT8, _elements(_INT8, residuals[begin : begin + n]), 0, n)))
    return rows


def _value_columns(values: Values, begins: Times, lengths: Times) -> list[tuple[bytes | memoryview, ...]]:
    """The columns values_f8 and values_i8 of each series: one is set."""
    dtype = _FLOAT8 if values.dtype == np.float64 else _INT8
    elements = _elements(dtype, values)
    arrays = [_array(dtype, elements, begin, n) for begin, n in zip(begins.tolist(), lengths.tolist(), strict=True)]
    return [(*array, _NULL) if dtype is _FLOAT8 else (_NULL, *array) for array in arrays]


def _statistics(
    values: Values, begins: Times, lengths: Times
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], Times]:
    """Smallest, largest, sum and number of the values that are not NaN; all 0 where there are none."""
    with np.errstate(invalid="ignore", over="ignore"):
        low = np.minimum.reduceat(values, begins).astype(np.float64)
        high = np.maximum.reduceat(values, begins).astype(np.float64)
        total = np.add.reduceat(values.astype(np.float64, copy=False), begins)
        count = lengths.copy()
        for at in np.flatnonzero(np.isnan(low)).tolist():
            of_series = values[begins[at] : begins[at] + lengths[at]]
            numbers = of_series[~np.isnan(of_series)]
            count[at] = len(numbers)
            low[at], high[at], total[at] = (numbers.min(), numbers.max(), numbers.sum()) if len(numbers) else (0, 0, 0)
    return low, high, total, count


def _elements(dtype: np.dtype[np.void], values: Values) -> memoryview:
    elements = np.empty(len(values), dtype)
    elements["length"] = dtype.itemsize - 4
    elements["value"] = values
    return memoryview(elements.tobytes())


def _array(dtype: np.dtype[np.void], elements: memoryview, begin: int, n: int) -> tuple[bytes, memoryview]:
    size = n * dtype.itemsize
    head = _ARRAY_HEAD.pack(_ARRAY_HEAD_BYTES + size, 1, 0, _OIDS[dtype], n, 1)
    return head, elements[begin * dtype.itemsize :][:size]
