import numpy as np
import pytest

from rigmesh.v1.telemetry_pb2 import TelemetryChunk
from rigmesh_client.samples import Samples, Selection, concatenate, from_chunk


def samples(unit: str = "g", session: str = "a", *, late: bool = False) -> Samples:
    chunk = TelemetryChunk(
        channel="s/ax", unit=unit, capture_session_id=session, late=late, time_ns=[1, 2], values=[3, 4]
    )
    return from_chunk(chunk)


def test_integers_stay_integers() -> None:
    extremes = [-(2**63), 2**63 - 1]
    part = from_chunk(TelemetryChunk(time_ns=extremes, integers=extremes))
    assert part.values.dtype == part.time_ns.dtype == np.int64
    assert part.values.tolist() == part.time_ns.tolist() == extremes


def test_parts_become_one() -> None:
    whole = concatenate([samples(), samples(session="b", late=True)])
    assert (whole.unit, whole.capture_session_id, whole.late) == ("g", "", True)
    assert whole.time_ns.tolist() == [1, 2, 1, 2]
    assert whole.values.tolist() == [3, 4, 3, 4]


def test_units_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="part by part"):
        concatenate([samples(), samples(unit="m/s2")])


def test_times_of_a_selection_are_exact() -> None:
    start = Selection(start_ns=1_790_000_000_123_456_789).start_at()
    assert start is not None
    assert (start.seconds, start.nanos) == (1_790_000_000, 123_456_789)
    assert Selection().end_at() is None
