"""Reads a row of binary COPY back: an independent decoder, field by field as PostgreSQL documents the format."""

import struct

import numpy as np

FIELDS = 21  # those after commit_id and late


def decode_row(row: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Device times and values of an encoded block."""
    fields = _fields(row)
    start_ns, period_ns = (struct.unpack(">q", fields[i])[0] for i in (2, 4))
    n = struct.unpack(">i", fields[9])[0]
    residuals = _array(fields[17], ">i4") if fields[17] is not None else _array(fields[18], ">i8")
    values = _array(fields[19], ">f8") if fields[19] is not None else _array(fields[20], ">i8")
    time_ns = np.array([start_ns + i * period_ns for i in range(n)], np.int64)
    return time_ns if residuals is None else time_ns + residuals, values


def _fields(row: bytes) -> list[bytes | None]:
    fields, at = [], 0
    for _ in range(FIELDS):
        (size,) = struct.unpack_from(">i", row, at)
        at += 4
        fields.append(None if size < 0 else row[at : at + size])
        at += max(size, 0)
    assert at == len(row), "the row has more fields than the table"
    return fields


def _array(data: bytes | None, kind: str) -> np.ndarray | None:
    if data is None:
        return None
    dimensions, nulls, _, n, lower = struct.unpack_from(">iiIii", data)
    assert (dimensions, nulls, lower) == (1, 0, 1)
    width = np.dtype(kind).itemsize
    elements = [data[20 + i * (4 + width) : 20 + (i + 1) * (4 + width)] for i in range(n)]
    assert all(element[:4] == struct.pack(">i", width) for element in elements)
    return np.frombuffer(b"".join(element[4:] for element in elements), kind).astype(kind.replace(">", "<"))
