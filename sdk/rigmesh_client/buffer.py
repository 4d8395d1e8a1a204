"""Which batches are kept, which may be sent now, and which may be forgotten. No input or output."""

from collections.abc import Iterable

from rigmesh.v1.telemetry_ingest_pb2 import SeqRange, Window
from rigmesh_client.batches import EncodedBatch

FIRST_WINDOW = Window(max_batches=64, max_bytes=4 << 20)  # until the server says another


class SendBuffer:
    """Batches of one epoch in order of their numbers, from 1.

    `max_batches` and `max_bytes` bound what is kept; the server's window bounds what of it is in flight. A single batch
    is always let through, whatever its size, so that neither bound can stop the stream for good.

    Sends that wait for the window are put together into larger batches: a stream that keeps up sends each at once, one
    that does not sends fewer, larger messages. A batch that was sent once never changes.
    """

    def __init__(self, max_batches: int, max_bytes: int):
        if max_batches < 1 or max_bytes < 1:
            raise ValueError("a buffer holds at least one batch and one byte")
        self._max_batches = max_batches
        self._max_bytes = max_bytes
        self._pending: dict[int, EncodedBatch] = {}
        self._bytes = 0
        self._window = FIRST_WINDOW
        self._in_flight_batches = 0
        self._in_flight_bytes = 0
        self._sent_through = self._ever_sent_through = 0
        self._numbers_before = 0
        self.last_seq = 0
        """Number of the newest batch; 0 = none."""
        self.sent_samples = 0
        """Samples written since the last rewind, repetitions included."""

    def __len__(self) -> int:
        """Batches that are not acknowledged."""
        return len(self._pending)

    @property
    def oldest_seq(self) -> int:
        """Number of the oldest batch that is not acknowledged; one more than the newest if there is none."""
        return next(iter(self._pending), self.last_seq + 1)

    @property
    def in_flight(self) -> bool:
        """Whether a batch was sent since the last rewind and is not acknowledged."""
        return self._in_flight_batches > 0

    @property
    def newest_position(self) -> int:
        """As `last_seq`, but counted through all epochs."""
        return self._numbers_before + self.last_seq

    def is_settled(self, position: int) -> bool:
        """Whether all that was added until `newest_position` was this is acknowledged."""
        return not self._pending or self._numbers_before + self.oldest_seq > position

    def has_room(self, batch: EncodedBatch) -> bool:
        """Whether the batch may be added now."""
        within = len(self._pending) < self._max_batches and self._bytes + len(batch.series) <= self._max_bytes
        return within or not self._pending

    def add(self, batch: EncodedBatch) -> None:
        """Takes a batch: under the next number, or as a part of the newest one. The caller asks `has_room` first."""
        newest = self._pending.get(self.last_seq)
        if newest is not None and self.last_seq > self._ever_sent_through and newest.takes(batch):
            self._pending[self.last_seq] = newest.joined(batch)
        else:
            self.last_seq += 1
            self._pending[self.last_seq] = batch
        self._bytes += len(batch.series)

    def next_to_send(self) -> tuple[int, EncodedBatch] | None:
        """Number and content of the next batch that the window lets through, counted as in flight; None if none."""
        seq = self._sent_through + 1
        while seq <= self.last_seq and seq not in self._pending:  # durable above a gap before it was sent again
            seq += 1
        batch = self._pending.get(seq)
        if batch is None or not self._window_lets(batch):
            return None
        self._sent_through = seq
        self._ever_sent_through = max(seq, self._ever_sent_through)
        self._in_flight_batches += 1
        self._in_flight_bytes += len(batch.series)
        self.sent_samples += batch.samples
        return seq, batch

    def all_sent(self) -> bool:
        """Whether everything kept was written since the last rewind."""
        return not self._pending or self._sent_through >= next(reversed(self._pending))

    def acknowledge(self, through: int, ranges: Iterable[SeqRange] = ()) -> None:
        """Forgets the batches 1 to `through` and those in the ranges."""
        self._forget(list(self._leading(through)))
        for covered in ranges:
            self._forget([seq for seq in self._pending if covered.first <= seq <= covered.last])

    def set_window(self, window: Window) -> None:
        """The server's newest window."""
        self._window = window

    def rewind(self, cursor: Iterable[SeqRange]) -> None:
        """A new stream begins: what the cursor covers is forgotten, nothing else counts as sent any more."""
        self._sent_through = 0
        self._in_flight_batches = self._in_flight_bytes = self.sent_samples = 0
        self.acknowledge(0, cursor)
        self._sent_through = self.oldest_seq - 1

    def renumber(self) -> None:
        """A new epoch begins, which has nothing of this one: what is kept gets the numbers from 1 on."""
        self._numbers_before += self.oldest_seq - 1
        self._pending = dict(enumerate(self._pending.values(), start=1))
        self.last_seq = len(self._pending)
        self._ever_sent_through = 0
        self.rewind([])

    def holds(self, ranges: Iterable[SeqRange]) -> bool:
        """Whether every batch of the ranges can still be sent."""
        return all(seq in self._pending for covered in ranges for seq in range(covered.first, covered.last + 1))

    def _leading(self, through: int) -> Iterable[int]:
        for seq in self._pending:
            if seq > through:
                return
            yield seq

    def _forget(self, seqs: list[int]) -> None:
        for seq in seqs:
            size = len(self._pending.pop(seq).series)
            self._bytes -= size
            if seq <= self._sent_through:
                self._in_flight_batches -= 1
                self._in_flight_bytes -= size

    def _window_lets(self, batch: EncodedBatch) -> bool:
        within_batches = self._in_flight_batches < self._window.max_batches
        within_bytes = self._in_flight_bytes + len(batch.series) <= self._window.max_bytes
        return self._in_flight_batches == 0 or (within_batches and within_bytes)
