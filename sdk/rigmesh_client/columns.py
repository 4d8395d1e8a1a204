"""What `send` is given, checked: values and times as numpy columns, and how each is written."""

from dataclasses import dataclass
from operator import index
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rigmesh.v1.telemetry_ingest_pb2 import Irregular, Regular, Series
from rigmesh_client.wire import Int64s, delimited, pack_sint64

Column: TypeAlias = NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int64]

_INT64 = np.iinfo(np.int64)
_VALUES_FIELDS = {
    np.dtype("<f8"): Series.DOUBLES_FIELD_NUMBER,
    np.dtype("<f4"): Series.FLOATS_FIELD_NUMBER,
    np.dtype("<i8"): Series.INTEGERS_FIELD_NUMBER,
}


def as_column(values: ArrayLike) -> Column:
    """The values as one little-endian column: float64 and float32 as they are, every kind of integer as int64.

    ValueError: not one-dimensional, another type, or an integer that does not fit int64.
    """
    column = np.asarray(values)
    if column.ndim != 1:
        raise ValueError(f"values must be one-dimensional, not of shape {column.shape}")
    if column.dtype.kind == "f" and column.dtype.itemsize in (4, 8):
        return np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
    if column.dtype.kind == "u" and column.size and int(column.max()) > _INT64.max:
        raise ValueError(f"{column.max()} does not fit into a signed 64-bit integer")
    if column.dtype.kind in "iu":
        return np.ascontiguousarray(column, "<i8")
    raise ValueError(f"values must be float64, float32 or integers, not {column.dtype}")


def pack_values(column: Column) -> bytes:
    """The `values` of a Series."""
    packed = pack_sint64(column.view(np.int64)) if column.dtype.kind == "i" else column.tobytes()
    return delimited(_VALUES_FIELDS[column.dtype], delimited(1, packed))


@dataclass(frozen=True, slots=True)
class RegularTimes:
    """Equal steps in nanoseconds. ValueError: a step below 1 ns between samples, or a time beyond int64."""

    start_ns: int
    period_ns: int
    count: int

    def __post_init__(self) -> None:
        if self.period_ns < (1 if self.count > 1 else 0):
            raise ValueError(f"period_ns must be above 0, not {self.period_ns}")
        if self.start_ns < _INT64.min or self.start_ns + max(self.count - 1, 0) * self.period_ns > _INT64.max:
            raise ValueError("a time does not fit into signed 64-bit nanoseconds")

    def part(self, first: int, end: int) -> "RegularTimes":
        """Times of the samples from `first` to before `end`."""
        return RegularTimes(self.start_ns + first * self.period_ns, self.period_ns, end - first)

    def pack(self) -> bytes:
        """The `time` of a Series."""
        return Series(regular=Regular(start_ns=self.start_ns, period_ns=self.period_ns)).SerializeToString()

    def as_int64(self) -> Int64s:
        """Every time."""
        return self.start_ns + self.period_ns * np.arange(self.count, dtype="<i8")


@dataclass(frozen=True, slots=True)
class IrregularTimes:
    """Any times in nanoseconds, in the order of the values. ValueError: not integers, or too far apart for int64."""

    times_ns: Int64s

    def __post_init__(self) -> None:
        if self.times_ns.dtype != np.int64:
            raise ValueError("times_ns must be integers: a float cannot hold today's nanoseconds")
        if self.count and int(self.times_ns.max()) - int(self.times_ns.min()) > _INT64.max:
            raise ValueError("times_ns are too far apart for signed 64-bit nanoseconds")

    @property
    def count(self) -> int:
        """How many."""
        return self.times_ns.size

    def part(self, first: int, end: int) -> "IrregularTimes":
        """Times of the samples from `first` to before `end`."""
        return IrregularTimes(self.times_ns[first:end])

    def pack(self) -> bytes:
        """The `time` of a Series: the first time, then the steps."""
        head = Irregular(start_ns=int(self.times_ns[0])).SerializeToString()
        steps = pack_sint64(np.diff(self.times_ns, prepend=self.times_ns[:1]))
        return delimited(Series.IRREGULAR_FIELD_NUMBER, head + delimited(Irregular.DELTA_NS_FIELD_NUMBER, steps))

    def as_int64(self) -> Int64s:
        """Every time."""
        return self.times_ns


SampleTimes: TypeAlias = RegularTimes | IrregularTimes


def as_times(count: int, start_ns: int | None, period_ns: int | None, times_ns: ArrayLike | None) -> SampleTimes:
    """Times of `count` samples: either `start_ns` with `period_ns` (needed for more than one sample), or `times_ns`.

    ValueError: neither, both, or another number of them. TypeError: floats.
    """
    if times_ns is not None and start_ns is None and period_ns is None:
        times = IrregularTimes(as_column(times_ns))  # type: ignore[arg-type] # its own check says what is wrong with floats
        if times.count != count:
            raise ValueError(f"{count} samples have {times.count} times")
        return times
    if times_ns is None and start_ns is not None:
        return RegularTimes(index(start_ns), index(period_ns or 0), count)
    raise ValueError("times are either start_ns and period_ns, or times_ns")
