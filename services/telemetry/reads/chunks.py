"""Builds answers from arrays by writing the packed fields' bytes: thirty times faster than a Python object a sample."""

import numpy as np
import numpy.typing as npt

from rigmesh.v1.telemetry_pb2 import TelemetryChunk
from services.telemetry.reads.merge import Piece
from services.telemetry.reads.physical import Conversion

_TIME, _VALUES, _INTEGERS = (
    TelemetryChunk.DESCRIPTOR.fields_by_name[name].number for name in ("time_ns", "values", "integers")
)
_LENGTH_DELIMITED = 2


def make_chunk(channel: str, conversion: Conversion, piece: Piece) -> TelemetryChunk:
    """A chunk of the contract."""
    values = _INTEGERS if piece.values.dtype == np.int64 else _VALUES
    chunk = TelemetryChunk.FromString(packed(_TIME, piece.time_ns) + packed(values, piece.values))
    chunk.channel = channel
    chunk.capture_session_id = piece.capture_session_id or ""
    chunk.unit = conversion.unit
    chunk.conversion_profile_id = conversion.conversion_profile_id
    chunk.late = piece.late
    return chunk


def packed(field_number: int, values: npt.NDArray[np.generic]) -> bytes:
    """A packed repeated field of fixed 8-byte elements (double, sfixed64) in protobuf's wire format."""
    data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return _varint(field_number << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
