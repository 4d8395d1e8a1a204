"""A Series of the contract as arrays: device times in nanoseconds and values, with the CRC of a batch's content."""

from dataclasses import dataclass

import crc32c
import numpy as np
import numpy.typing as npt

from rigmesh.v1.error_reason_pb2 import MALFORMED_SERIES, ErrorReason
from rigmesh.v1.telemetry_ingest_pb2 import Batch, Series

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64] | npt.NDArray[np.int64]
INT64_MAX = 2**63 - 1


class BadSeriesError(Exception):
    """A series that cannot be taken; becomes a Reject."""

    def __init__(self, reason: ErrorReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Samples:
    """Device times (int64, ns) and values (float64 or int64) of equal length, at least 1. `period_ns` where regular."""

    time_ns: Times
    values: Values
    period_ns: int | None


def parse(series: Series) -> Samples:
    """Arrays of one series. Raises BadSeriesError MALFORMED_SERIES when they do not fit each other, or int64."""
    values = _values(series)
    if not len(values):
        raise BadSeriesError(MALFORMED_SERIES, "a series needs at least one value")
    match series.WhichOneof("time"):
        case "regular":
            period_ns = int(series.regular.period_ns)
            return Samples(_regular(series.regular.start_ns, period_ns, len(values)), values, period_ns)
        case "irregular":
            return Samples(_irregular(series, len(values)), values, None)
    raise BadSeriesError(MALFORMED_SERIES, "a series needs its times")


def sample_count(series: Series) -> int:
    """How many values a series holds."""
    kind = series.WhichOneof("values")
    return len(getattr(series, kind).values) if kind else 0


def extend_crc(crc: int, alias: int, samples: Samples) -> int:
    """The CRC-32C of a batch's content so far, with one more series: alias, times, values, little-endian."""
    crc = crc32c.crc32c(alias.to_bytes(4, "little"), crc)
    crc = crc32c.crc32c(samples.time_ns.astype("<i8", copy=False).tobytes(), crc)
    return crc32c.crc32c(samples.values.astype(samples.values.dtype.newbyteorder("<"), copy=False).tobytes(), crc)


def malformed_crc(crc: int, message: Series | Batch) -> int:
    """Stands in for `extend_crc` where there are no samples to speak of: the message's bytes."""
    return crc32c.crc32c(message.SerializeToString(deterministic=True), crc)


def batch_samples(batch: Batch) -> int:
    """How many values a batch holds."""
    return sum(sample_count(series) for series in batch.series)


def _values(series: Series) -> Values:
    match series.WhichOneof("values"):
        case "doubles":
            return np.array(series.doubles.values, np.float64)
        case "floats":
            return np.array(series.floats.values, np.float32).astype(np.float64)
        case "integers":
            return np.array(series.integers.values, np.int64)
    raise BadSeriesError(MALFORMED_SERIES, "a series needs values")


def _regular(start_ns: int, period_ns: int, n: int) -> Times:
    if period_ns < 0 or (n > 1 and period_ns == 0):
        raise BadSeriesError(MALFORMED_SERIES, "period_ns must be above 0")
    if start_ns + period_ns * (n - 1) > INT64_MAX:
        raise BadSeriesError(MALFORMED_SERIES, "a time does not fit 64 bits")
    return np.arange(n, dtype=np.int64) * period_ns + start_ns


def _irregular(series: Series, n: int) -> Times:
    deltas = np.array(series.irregular.delta_ns, np.int64)
    if len(deltas) != n:
        raise BadSeriesError(MALFORMED_SERIES, f"{len(deltas)} times for {n} values")
    # In floating point nothing wraps: a sum near the border of int64 is refused a little early.
    reach = abs(series.irregular.start_ns) + float(np.abs(deltas.astype(np.float64)).sum())
    if reach >= INT64_MAX:
        raise BadSeriesError(MALFORMED_SERIES, "a time does not fit 64 bits")
    return np.cumsum(deltas) + series.irregular.start_ns
