"""Which samples are asked for, and the form in which they come."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from rigmesh.v1.telemetry_pb2 import TelemetryChunk


@dataclass(frozen=True)
class Selection:
    """Channels ("sensor_id/signal"), a capture session, a run: several narrow each other, one is needed."""

    channels: Sequence[str] = ()
    capture_session_id: str = ""
    run_id: str = ""
    start_ns: int | None = None
    """First instant, nanoseconds since 1970; None = from the first sample (for `live`: no history)."""
    end_ns: int | None = None
    """First instant that is not wanted any more; None = to the last sample."""

    def start_at(self) -> Timestamp | None:
        """`start_ns` as the contract has it."""
        return _timestamp(self.start_ns)

    def end_at(self) -> Timestamp | None:
        """`end_ns` as the contract has it."""
        return _timestamp(self.end_ns)


@dataclass(frozen=True)
class Samples:
    """Samples of one channel that have all this in common, in two arrays of equal length."""

    channel: str
    """"sensor_id/signal"."""
    unit: str
    """Of the values."""
    capture_session_id: str
    """Empty = none."""
    conversion_profile_id: str
    """Empty = the values are raw."""
    late: bool
    """Received after the end of their session."""
    time_ns: NDArray[np.int64]
    """Nanoseconds since 1970."""
    values: NDArray[np.float64] | NDArray[np.int64]
    """int64 for integer channels that are not converted."""


def from_chunk(chunk: TelemetryChunk) -> Samples:
    """A chunk of the contract as arrays."""
    values = np.array(chunk.integers, np.int64) if chunk.integers else np.array(chunk.values, np.float64)
    return Samples(
        channel=chunk.channel,
        unit=chunk.unit,
        capture_session_id=chunk.capture_session_id,
        conversion_profile_id=chunk.conversion_profile_id,
        late=chunk.late,
        time_ns=np.array(chunk.time_ns, np.int64),
        values=values,
    )


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Parts of one channel as one: `late` if any is; ids that differ become empty. ValueError: the units differ."""
    first = parts[0]
    if len({part.unit for part in parts}) > 1:
        raise ValueError(f"{first.channel} has values in {sorted({part.unit for part in parts})}: read it part by part")
    sessions = {part.capture_session_id for part in parts}
    profiles = {part.conversion_profile_id for part in parts}
    return replace(
        first,
        capture_session_id=sessions.pop() if len(sessions) == 1 else "",
        conversion_profile_id=profiles.pop() if len(profiles) == 1 else "",
        late=any(part.late for part in parts),
        time_ns=np.concatenate([part.time_ns for part in parts]),
        values=np.concatenate([part.values for part in parts]),
    )


def _timestamp(ns: int | None) -> Timestamp | None:
    return None if ns is None else Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)
