"""How one `send` becomes batches, and how a batch becomes a frame."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import crc32c as crc
import numpy as np

from rigmesh.v1.telemetry_ingest_pb2 import Batch, Series
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestRequest
from rigmesh_client.columns import Column, SampleTimes, pack_values
from rigmesh_client.wire import delimited

# at 20 bytes a sample (two of the longest varints) and some 60 a series, this also keeps a message far below its 4 MiB
MAX_BATCH_SAMPLES = 65_536
MAX_BATCH_SERIES = 1024
# a message of this size costs little more than one of a tenth
JOINED_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Everything of a batch that does not depend on when it is sent."""

    series: bytes
    """`Batch.series`, packed."""
    samples: int
    crc32c: int | None
    series_count: int = 1

    def takes(self, other: "EncodedBatch") -> bool:
        """Whether both may become one batch. A checksum is over all of a batch: then each stays as it is."""
        return (
            self.crc32c is None
            and other.crc32c is None
            and len(self.series) + len(other.series) <= JOINED_BYTES
            and self.samples + other.samples <= MAX_BATCH_SAMPLES
            and self.series_count + other.series_count <= MAX_BATCH_SERIES
        )

    def joined(self, other: "EncodedBatch") -> "EncodedBatch":
        """Both as one: a repeated field goes on where it ended."""
        count = self.series_count + other.series_count
        return EncodedBatch(self.series + other.series, self.samples + other.samples, None, count)


def split(columns: Mapping[int, Column], times: SampleTimes, *, checksum: bool) -> Iterator[EncodedBatch]:
    """Columns by alias as batches of at most 65 536 samples, each with the same stretch of every column."""
    stretch = MAX_BATCH_SAMPLES // len(columns)
    for first in range(0, times.count, stretch):
        end = min(first + stretch, times.count)
        yield _encode({alias: column[first:end] for alias, column in columns.items()}, times.part(first, end), checksum)


def frame(seq: int, device_sent_ns: int, batch: EncodedBatch) -> bytes:
    """The bytes of a TelemetryIngestRequest. What was packed before is not packed again."""
    head = Batch(seq=seq, device_sent_ns=device_sent_ns, crc32c=batch.crc32c).SerializeToString()
    return delimited(TelemetryIngestRequest.BATCH_FIELD_NUMBER, head + batch.series)


def content_crc32c(columns: Mapping[int, Column], times: SampleTimes) -> int:
    """The CRC-32C of a batch's content as Batch.crc32c defines it."""
    value = 0
    stamps = times.as_int64().astype("<i8", copy=False)
    for alias, column in columns.items():
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one, as it will on the server
            wide = column if column.dtype == np.int64 else column.astype("<f8", copy=False)
        for part in (alias.to_bytes(4, "little"), stamps.tobytes(), wide.tobytes()):
            value = crc.crc32c(part, value)
    return value


def _encode(columns: Mapping[int, Column], times: SampleTimes, checksum: bool) -> EncodedBatch:
    packed_times = times.pack()
    series = [
        delimited(
            Batch.SERIES_FIELD_NUMBER, Series(alias=alias).SerializeToString() + packed_times + pack_values(column)
        )
        for alias, column in columns.items()
    ]
    return EncodedBatch(
        series=b"".join(series),
        samples=times.count * len(columns),
        crc32c=content_crc32c(columns, times) if checksum else None,
        series_count=len(columns),
    )
