"""A batch on its way to the database: what its stream made of it, and what the commit did with it."""

import asyncio
from dataclasses import dataclass, field

from rigmesh.v1.error_reason_pb2 import ErrorReason
from rigmesh.v1.telemetry_ingest_pb2 import Batch, Series
from services.telemetry.blocks import Block
from services.telemetry.ingest.lanes import Ranges
from services.telemetry.series import Samples, batch_samples, sample_count


@dataclass(frozen=True)
class Channel:
    """A bound channel. `alias` is the client's number; the session may be empty."""

    alias: int
    channel_id: int
    sensor_id: str
    signal: str
    unit: str
    capture_session_id: str
    conversion_profile_id: str = ""
    value_type: str | None = None


UNNAMED = Channel(0, 0, "", "", "", "")


@dataclass(frozen=True)
class Refusal:
    """Why a series, or with `part` None the whole batch, is not stored, with what quarantine keeps of it.

    `part` counts the series of the batch from 0; sensor and signal are known where the alias was named in a binding.
    """

    reason: ErrorReason.ValueType
    message: str
    samples: int
    payload: bytes
    part: int | None = None
    alias: int | None = None
    sensor_id: str = ""
    signal: str = ""
    unit: str = ""
    capture_session_id: str = ""


@dataclass(slots=True)
class Taken:
    """A series that looks sound, not encoded yet. `part` counts the series of its batch."""

    part: int
    series: Series
    channel: Channel
    samples: Samples

    def refuse(self, reason: ErrorReason.ValueType, message: str) -> Refusal:
        """The same series as a refusal."""
        return refuse_series(self.part, self.series, reason, message, self.channel)


@dataclass(slots=True)
class Accepted:
    """An encoded series, and what it was made of for the case that the commit must refuse it."""

    block: Block
    taken: Taken


@dataclass(slots=True)
class Verdict:
    """What a commit made of a batch. `received` is the lane's new state; a quarantine_id goes with each refusal."""

    received: Ranges
    committed: int = 0
    late: int = 0
    deduplicated: int = 0
    refusals: tuple[tuple[Refusal, str], ...] = ()


@dataclass(slots=True)
class Pending:
    """A batch that waits for its commit. `holder` is None where no stream holds the lane.

    `taken` becomes `accepted` when the batches of its commit are encoded together. `done` gets the Verdict, or one of
    the errors below.
    """

    batch: Batch
    lane_id: int
    holder: int | None
    crc: int
    clock_id: int
    offset_ns: int
    received_ns: int
    size_bytes: int
    samples: int
    taken: list[Taken] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    done: asyncio.Future[Verdict] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def seq(self) -> int:
        return self.batch.seq

    @property
    def device_sent_ns(self) -> int | None:
        return self.batch.device_sent_ns if self.batch.HasField("device_sent_ns") else None

    def refuse_whole(self, reason: ErrorReason.ValueType, message: str) -> None:
        """Nothing of this batch is stored; quarantine keeps all of it."""
        self.taken.clear()
        self.accepted.clear()
        self.refusals[:] = [whole_refusal(self.batch, reason, message)]


class SupersededError(Exception):
    """A newer stream holds the lane."""


class TooManyGapsError(Exception):
    """The batch would leave more gaps in its lane than a sound client makes."""


class NotStoredError(Exception):
    """The database refuses even the record that the batch was refused; it is not acknowledged."""


def refuse_series(
    part: int, series: Series, reason: ErrorReason.ValueType, message: str, channel: Channel | None
) -> Refusal:
    """A series that is not stored. `channel` is as bound, or as a refused binding named it."""
    named = channel or UNNAMED
    return Refusal(
        reason,
        message,
        sample_count(series),
        series.SerializeToString(),
        part,
        series.alias,
        named.sensor_id,
        named.signal,
        named.unit,
        named.capture_session_id,
    )


def whole_refusal(batch: Batch, reason: ErrorReason.ValueType, message: str) -> Refusal:
    """A batch of which nothing is stored."""
    return Refusal(reason, message, batch_samples(batch), batch.SerializeToString())
