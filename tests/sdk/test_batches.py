"""What a stream sends, decoded by protobuf, is what it was given: bit by bit, with the checksum of the contract."""

import crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from rigmesh.v1.telemetry_ingest_pb2 import Batch, Series
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestRequest
from rigmesh_client.batches import MAX_BATCH_SAMPLES, frame, split
from rigmesh_client.columns import Column, IrregularTimes, RegularTimes, SampleTimes, as_column, as_times

INT64_MAX = 2**63 - 1
# all bit patterns, so that NaN payloads, subnormals and both zeros come up
DOUBLES = arrays.arrays(np.uint64, st.integers(1, 40)).map(lambda bits: bits.view(np.float64))
FLOATS = arrays.arrays(np.uint32, st.integers(1, 40)).map(lambda bits: bits.view(np.float32))
INTEGERS = arrays.arrays(np.int64, st.integers(1, 40))
DAY_NS = 86_400 * 10**9


def decoded(columns: dict[int, Column], times: SampleTimes) -> Batch:
    (batch,) = split(columns, times, checksum=True)
    return TelemetryIngestRequest.FromString(frame(5, 123, batch)).batch


def times_of(series: Series) -> list[int]:
    if series.WhichOneof("time") == "regular":
        count = max(len(series.doubles.values), len(series.floats.values), len(series.integers.values))
        return [series.regular.start_ns + i * series.regular.period_ns for i in range(count)]
    return [int(t) for t in series.irregular.start_ns + np.cumsum(np.array(series.irregular.delta_ns, np.int64))]


def bits(values: NDArray[np.generic]) -> bytes:
    return np.asarray(values).tobytes()


@given(st.one_of(DOUBLES, FLOATS, INTEGERS), st.data())
def test_values_and_times_arrive_bit_by_bit(values: Column, data: st.DataObject) -> None:
    jitter = data.draw(arrays.arrays(np.int64, values.size, elements=st.integers(-DAY_NS, DAY_NS)))
    times = 1_790_000_000 * 10**9 + np.arange(values.size) * 20_000_000 + jitter
    series = decoded({3: values}, IrregularTimes(times)).series[0]
    assert series.alias == 3
    assert times_of(series) == times.tolist()
    match series.WhichOneof("values"):
        case "doubles":
            assert bits(np.array(series.doubles.values, np.float64)) == bits(values)
        case "floats":
            # protobuf's Python floats quiet a signalling NaN on the way; the wire is what counts
            assert bits(values) in series.SerializeToString()
        case "integers":
            assert list(series.integers.values) == values.tolist()


def test_a_signalling_nan_is_sent_like_any_value() -> None:
    values = np.array([0x7F800001], np.uint32).view(np.float32)
    assert bits(values) in decoded({3: values}, IrregularTimes(np.array([0]))).series[0].SerializeToString()


@pytest.mark.parametrize(
    "times", [[-(2**63)], [2**63 - 1], [-(2**63), -1, -(2**63)], [0, INT64_MAX, 0], [INT64_MAX, INT64_MAX - 1]]
)
def test_extreme_times_arrive(times: list[int]) -> None:
    series = decoded({1: np.zeros(len(times))}, as_times(len(times), None, None, times)).series[0]
    assert times_of(series) == times


@given(DOUBLES, INTEGERS, st.integers(-(2**62), 2**62), st.integers(1, 10**12))
def test_the_checksum_is_that_of_the_contract(doubles: Column, integers: Column, start: int, period: int) -> None:
    count = min(doubles.size, integers.size)
    columns = {7: doubles[:count], 9: integers[:count]}
    batch = decoded(columns, RegularTimes(start, period, count))
    content = b""
    for series in batch.series:
        content += series.alias.to_bytes(4, "little") + np.array(times_of(series), "<i8").tobytes()
        content += bits(columns[series.alias])
    assert batch.crc32c == crc32c.crc32c(content)


def test_a_frame_has_its_number_and_the_time_of_sending() -> None:
    batch = decoded({1: np.array([1.0])}, RegularTimes(0, 0, 1))
    assert (batch.seq, batch.device_sent_ns) == (5, 123)


@given(st.integers(0, 3 * MAX_BATCH_SAMPLES), st.integers(1, 7))
def test_long_sends_are_cut_without_a_gap(count: int, channels: int) -> None:
    columns: dict[int, Column] = {alias: np.arange(count) for alias in range(1, channels + 1)}
    batches = list(split(columns, RegularTimes(10, 3, count), checksum=False))
    assert all(batch.samples <= MAX_BATCH_SAMPLES for batch in batches)
    assert sum(batch.samples for batch in batches) == count * channels
    end = 10
    for batch in batches:
        first = TelemetryIngestRequest.FromString(frame(1, 0, batch)).batch.series[0]
        assert first.regular.start_ns == end
        end += 3 * len(first.integers.values)
    assert end == 10 + 3 * count


def test_the_largest_batch_fits_into_a_message() -> None:
    count = MAX_BATCH_SAMPLES
    times = np.where(np.arange(count) % 2, 0, INT64_MAX)
    (batch,) = split({1: np.full(count, -(2**63))}, IrregularTimes(times), checksum=True)
    assert len(frame(2**63 - 1, 2**63 - 1, batch)) < 4 << 20


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([[1.0]], "one-dimensional"),
        (["a"], "not <U1"),
        ([True], "not bool"),
        (np.zeros(1, np.complex128), "complex128"),
        (np.zeros(1, np.float16), "float16"),
        (np.array([2**63], np.uint64), "9223372036854775808 does not fit"),
    ],
)
def test_other_values_are_refused(values: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        as_column(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i8", "<i2", "u4", "<f4", ">u2"])
def test_byte_orders_and_widths_keep_the_values(dtype: str) -> None:
    column = as_column(np.array([1, 2, 3, 4], dtype)[::2])
    assert column.dtype.str in ("<f8", "<f4", "<i8")
    assert column.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("count", "start", "period", "times", "complaint"),
    [
        (2, 0, 0, None, "above 0"),
        (2, 0, -1, None, "above 0"),
        (2, INT64_MAX, 1, None, "does not fit"),
        (2, None, None, [1], "2 samples have 1 times"),
        (1, None, None, [1.5], "must be integers"),
        (2, None, None, [-(2**63), INT64_MAX], "too far apart"),
        (1, 0, None, [1], "either"),
        (1, None, None, None, "either"),
    ],
)
def test_other_times_are_refused(
    count: int, start: int | None, period: int | None, times: list[int] | None, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        as_times(count, start, period, times)
