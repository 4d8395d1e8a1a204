"""The series of a batch as arrays: device times in nanoseconds and values, with the CRC of the batch's content.

A batch is handled as a whole where it can be: numpy costs by the call, hardly by the sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import crc32c
import numpy as np
import numpy.typing as npt

from rigmesh.v1.error_reason_pb2 import MALFORMED_SERIES, ErrorReason
from rigmesh.v1.telemetry_ingest_pb2 import Batch, Regular, Series

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64] | npt.NDArray[np.int64]
INT64_MAX = 2**63 - 1
# Times are summed up in int64 only where no sum can come near its border.
SAFE_SUM = 2.0**62


class BadSeriesError(Exception):
    """A series that cannot be taken; becomes a Reject."""

    def __init__(self, reason: ErrorReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(slots=True)
class Samples:
    """Device times (int64, ns) and values (float64 or int64) of equal length, at least 1. `period_ns` where regular."""

    time_ns: Times
    values: Values
    period_ns: int | None


def parse(batch: Sequence[Series]) -> list[Samples | BadSeriesError]:
    """Arrays of each series, or MALFORMED_SERIES where times and values do not fit each other, or int64."""
    parsed: list[Samples | BadSeriesError] = [_guarded(series) for series in batch]
    irregular = [
        (samples, series)
        for samples, series in zip(parsed, batch, strict=True)
        if isinstance(samples, Samples) and samples.period_ns is None
    ]
    if irregular:
        summed = _sum_up([samples.time_ns for samples, _ in irregular])
        for (samples, series), time_ns in zip(irregular, summed, strict=True):
            if time_ns is None or abs(series.irregular.start_ns) >= SAFE_SUM:
                parsed[parsed.index(samples)] = BadSeriesError(MALFORMED_SERIES, "a time does not fit 64 bits")
            else:
                time_ns += series.irregular.start_ns
                samples.time_ns = time_ns
    return parsed


def sample_count(series: Series) -> int:
    """How many values a series holds."""
    kind = series.WhichOneof("values")
    return len(getattr(series, kind).values) if kind else 0


def extend_crc(crc: int, alias: int, samples: Samples) -> int:
    """The CRC-32C of a batch's content so far, with one more series: alias, times, values, little-endian."""
    crc = crc32c.crc32c(alias.to_bytes(4, "little"), crc)
    crc = crc32c.crc32c(_little_endian(samples.time_ns), crc)
    return crc32c.crc32c(_little_endian(samples.values), crc)


def malformed_crc(crc: int, batch: Iterable[Series]) -> int:
    """Stands in for `extend_crc` where there are no samples to speak of: the bytes of the series."""
    for series in batch:
        crc = crc32c.crc32c(series.SerializeToString(deterministic=True), crc)
    return crc


def batch_samples(batch: Batch) -> int:
    """How many values a batch holds."""
    return sum(sample_count(series) for series in batch.series)


def _little_endian(values: Values) -> memoryview:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data


def _guarded(series: Series) -> Samples | BadSeriesError:
    try:
        return _columns(series)
    except BadSeriesError as error:
        return error


def _columns(series: Series) -> Samples:
    """Values, and times: of an irregular series still the steps between them."""
    values = _values(series)
    n = len(values)
    if not n:
        raise BadSeriesError(MALFORMED_SERIES, "a series needs at least one value")
    match series.WhichOneof("time"):
        case "regular":
            return Samples(_regular(series.regular, n), values, series.regular.period_ns)
        case "irregular":
            deltas = np.array(series.irregular.delta_ns, np.int64)
            if len(deltas) != n:
                raise BadSeriesError(MALFORMED_SERIES, f"{len(deltas)} times for {n} values")
            return Samples(deltas, values, None)
    raise BadSeriesError(MALFORMED_SERIES, "a series needs its times")


def _values(series: Series) -> Values:
    match series.WhichOneof("values"):
        case "doubles":
            return np.array(series.doubles.values, np.float64)
        case "floats":
            return np.array(series.floats.values, np.float32).astype(np.float64)
        case "integers":
            return np.array(series.integers.values, np.int64)
    raise BadSeriesError(MALFORMED_SERIES, "a series needs values")


def _regular(regular: Regular, n: int) -> Times:
    start_ns, period_ns = regular.start_ns, regular.period_ns
    if period_ns < 0 or (n > 1 and period_ns == 0):
        raise BadSeriesError(MALFORMED_SERIES, "period_ns must be above 0")
    if start_ns + period_ns * (n - 1) > INT64_MAX or period_ns * (n - 1) >= SAFE_SUM:
        raise BadSeriesError(MALFORMED_SERIES, "a time does not fit 64 bits")
    return np.arange(n, dtype=np.int64) * period_ns + start_ns


def _sum_up(steps: Sequence[Times]) -> list[Times | None]:
    """Running sums of each array; None where one may leave the safe part of int64."""
    joined = steps[0] if len(steps) == 1 else np.concatenate(steps)
    largest = max(-float(joined.min()), float(joined.max()))
    if largest * len(joined) >= SAFE_SUM:
        # Seldom: now each for itself, by a sum that cannot wrap.
        return [np.cumsum(one) if np.abs(one.astype(np.float64)).sum() < SAFE_SUM else None for one in steps]
    sums, begin, before = joined.cumsum(), 0, 0
    summed: list[Times | None] = []
    for one in steps:
        end = begin + len(one)
        summed.append(sums[begin:end] - before)
        begin, before = end, sums[end - 1]
    return summed
