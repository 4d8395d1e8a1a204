import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rigmesh.v1.telemetry_ingest_pb2 import Integers
from rigmesh_client.wire import delimited, pack_sint64

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INT64 | st.sampled_from([0, -1, 63, 64, -64, -65, -(2**63), 2**63 - 1]), max_size=50))
def test_packed_integers_are_what_protobuf_writes(numbers: list[int]) -> None:
    expected = Integers(values=numbers).SerializeToString()
    assert (delimited(1, pack_sint64(np.array(numbers, np.int64))) if numbers else b"") == expected


@given(st.binary(max_size=200), st.integers(1, 2**29 - 1))
def test_a_delimited_field_is_skipped_by_protobuf_as_a_whole(payload: bytes, field: int) -> None:
    message = Integers()
    if field != 1:
        message.MergeFromString(delimited(field, payload) + delimited(1, pack_sint64(np.array([7]))))
        assert list(message.values) == [7]
