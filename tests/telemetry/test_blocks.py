import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from services.telemetry.blocks import Block, Input, Origin, encode
from services.telemetry.series import BadSeriesError, Samples, extend_crc, parse
from tests.telemetry.copied import decode_row

SESSION = "0198c0de-0000-7000-8000-000000000001"
ORIGIN = Origin(lane_id=3, seq=5, clock_id=9, offset_ns=1_000, received_ns=1_790_000_000 * 10**9)
BASE_NS = 1_790_000_000 * 10**9
HOUR_NS = 3_600 * 10**9

any_double = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
special = st.sampled_from([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, 1.7976931348623157e308])
doubles = st.lists(any_double | special, min_size=1, max_size=50)
integers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50)
deltas = st.one_of(
    st.integers(-(10**6), 10**10),  # jitter over seconds
    st.integers(-HOUR_NS, HOUR_NS),  # jumps over hours
)


def parsed(series: pb.Series) -> Samples:
    (samples,) = parse([series])
    assert isinstance(samples, Samples), samples
    return samples


def encoded(*batch: pb.Series) -> list[Block]:
    return encode([Input(ORIGIN, 0, 7, SESSION, samples) for samples in parse(batch)])


def stored(series: pb.Series) -> tuple[Any, Any]:
    """Times and values as they come out of the row that goes into the database."""
    return decode_row(encoded(series)[0].row)


@given(st.lists(st.tuples(doubles, st.booleans()), min_size=1, max_size=6), st.data())
def test_series_of_a_batch_do_not_touch_each_other(drafts: list[tuple[list[float], bool]], data: st.DataObject) -> None:
    batch = []
    for values, is_regular in drafts:
        series = pb.Series(doubles=pb.Doubles(values=values))
        if is_regular:
            series.regular.MergeFrom(pb.Regular(start_ns=BASE_NS, period_ns=data.draw(st.integers(1, 10**9))))
        else:
            steps = data.draw(st.lists(deltas, min_size=len(values), max_size=len(values)))
            series.irregular.MergeFrom(pb.Irregular(start_ns=BASE_NS, delta_ns=steps))
        batch.append(series)
    alone = [encoded(series)[0] for series in batch]
    assert [(block.row, block.v_min, block.v_max) for block in encoded(*batch)] == [
        (block.row, block.v_min, block.v_max) for block in alone
    ]


@given(doubles, st.data())
def test_doubles_come_back_bit_by_bit_at_any_times(values: list[float], data: st.DataObject) -> None:
    steps = data.draw(st.lists(deltas, min_size=len(values), max_size=len(values)))
    series = pb.Series(irregular=pb.Irregular(start_ns=BASE_NS, delta_ns=steps), doubles=pb.Doubles(values=values))
    time_ns, back = stored(series)
    assert time_ns.tolist() == (BASE_NS + np.cumsum(steps)).tolist()
    assert back.tobytes() == np.array(values).tobytes()


@given(integers, st.integers(1, HOUR_NS))
def test_integers_come_back_whole_at_regular_times(values: list[int], period_ns: int) -> None:
    series = pb.Series(regular=pb.Regular(start_ns=BASE_NS, period_ns=period_ns), integers=pb.Integers(values=values))
    time_ns, back = stored(series)
    assert time_ns.tolist() == [BASE_NS + i * period_ns for i in range(len(values))]
    assert back.tolist() == values


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_floats_are_stored_as_the_same_doubles(values: list[float]) -> None:
    series = pb.Series(regular=pb.Regular(start_ns=BASE_NS, period_ns=1), floats=pb.Floats(values=values))
    assert stored(series)[1].tobytes() == np.array(values, np.float32).astype(np.float64).tobytes()


@given(doubles)
def test_the_crc_depends_on_the_content_and_not_on_how_it_is_written(values: list[float]) -> None:
    regular = pb.Series(regular=pb.Regular(start_ns=BASE_NS, period_ns=1000), doubles=pb.Doubles(values=values))
    steps = [0] + [1000] * (len(values) - 1)
    irregular = pb.Series(irregular=pb.Irregular(start_ns=BASE_NS, delta_ns=steps), doubles=pb.Doubles(values=values))
    expected = extend_crc(0, 1, parsed(regular))
    assert extend_crc(0, 1, parsed(irregular)) == expected
    assert extend_crc(0, 2, parsed(regular)) != expected


def test_statistics_leave_nan_out() -> None:
    series = pb.Series(
        regular=pb.Regular(start_ns=BASE_NS, period_ns=1), doubles=pb.Doubles(values=[2.0, float("nan"), -1.0])
    )
    (block,) = encoded(series)
    assert (block.v_min, block.v_max, block.n) == (-1.0, 2.0, 3)


def test_a_block_of_nan_has_no_statistics() -> None:
    series = pb.Series(regular=pb.Regular(start_ns=BASE_NS), doubles=pb.Doubles(values=[float("nan")]))
    assert encoded(series)[0].v_min is None


@pytest.mark.parametrize(
    "series",
    [
        pb.Series(regular=pb.Regular(start_ns=1, period_ns=1)),
        pb.Series(doubles=pb.Doubles(values=[1.0])),
        pb.Series(regular=pb.Regular(start_ns=1), doubles=pb.Doubles(values=[1.0, 2.0])),
        pb.Series(regular=pb.Regular(start_ns=1, period_ns=-1), doubles=pb.Doubles(values=[1.0])),
        pb.Series(regular=pb.Regular(start_ns=2**62, period_ns=2**62), doubles=pb.Doubles(values=[1.0] * 3)),
        pb.Series(irregular=pb.Irregular(delta_ns=[0]), doubles=pb.Doubles(values=[1.0, 2.0])),
        pb.Series(irregular=pb.Irregular(delta_ns=[2**62, 2**62, 2**62]), doubles=pb.Doubles(values=[1.0] * 3)),
    ],
)
def test_what_does_not_fit_together_is_refused(series: pb.Series) -> None:
    sound = pb.Series(regular=pb.Regular(start_ns=1), doubles=pb.Doubles(values=[1.0]))
    bad, good = parse([series, sound])
    assert isinstance(bad, BadSeriesError)
    assert isinstance(good, Samples)
