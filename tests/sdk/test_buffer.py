"""Whatever is sent, cut and resumed: a batch is forgotten only when the server has it, and none is left out."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rigmesh.v1.telemetry_ingest_pb2 import SeqRange, Window
from rigmesh_client.batches import EncodedBatch
from rigmesh_client.buffer import SendBuffer

MAX_BATCHES, MAX_BYTES = 6, 100


class Streaming(RuleBasedStateMachine):
    """A server that has some of the batches, in any order, and a client that hears of it sooner or later."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = SendBuffer(MAX_BATCHES, MAX_BYTES)
        self.sizes: list[int] = []
        self.durable: set[int] = set()
        self.told: set[int] = set()
        self.in_flight: list[int] = []
        self.written: set[int] = set()
        self.window = Window(max_batches=64, max_bytes=4 << 20)

    def ranges(self) -> list[SeqRange]:
        return [SeqRange(first=seq, last=seq) for seq in sorted(self.durable)]

    def through(self) -> int:
        through = 0
        while through + 1 in self.durable:
            through += 1
        return through

    @rule(size=st.integers(1, 2 * MAX_BYTES))
    def send(self, size: int) -> None:
        batch = EncodedBatch(series=bytes(size), samples=size, crc32c=None)
        if self.buffer.has_room(batch):
            newest = self.buffer.last_seq
            self.buffer.add(batch)
            if self.buffer.last_seq > newest:
                self.sizes.append(size)
            else:
                assert newest not in self.written, "a batch that was sent never changes"
                self.sizes[-1] += size

    @rule()
    def write(self) -> None:
        sending = self.buffer.next_to_send()
        if sending is None:
            return
        seq, batch = sending
        assert len(batch.series) == self.sizes[seq - 1]
        assert not self.in_flight or seq > max(self.in_flight)
        self.in_flight.append(seq)
        self.written.add(seq)
        unheard = [s for s in self.in_flight if s not in self.told]
        if len(unheard) > 1:
            assert len(unheard) <= self.window.max_batches
            assert sum(self.sizes[s - 1] for s in unheard) <= self.window.max_bytes

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.durable.add(data.draw(st.sampled_from(self.in_flight)))

    @rule()
    def acknowledge(self) -> None:
        self.buffer.acknowledge(self.through(), self.ranges())
        self.told |= self.durable

    @rule(max_batches=st.integers(0, 4), max_bytes=st.integers(0, 2 * MAX_BYTES))
    def change_window(self, max_batches: int, max_bytes: int) -> None:
        self.window = Window(max_batches=max_batches, max_bytes=max_bytes)
        self.buffer.set_window(self.window)

    @rule()
    def reconnect(self) -> None:
        self.buffer.rewind(self.ranges())
        self.told |= self.durable
        self.in_flight = []

    @invariant()
    def only_what_the_server_has_is_forgotten(self) -> None:
        kept = set(range(1, len(self.sizes) + 1)) - self.told
        assert len(self.buffer) == len(kept)
        assert self.buffer.oldest_seq == min(kept, default=len(self.sizes) + 1)
        assert self.buffer.holds([SeqRange(first=seq, last=seq) for seq in kept])
        assert len(kept) <= MAX_BATCHES
        assert sum(self.sizes[seq - 1] for seq in kept) <= MAX_BYTES or len(kept) == 1

    def teardown(self) -> None:
        """A connection that lasts brings over everything, in order."""
        self.reconnect()
        self.buffer.set_window(Window(max_batches=1, max_bytes=1))
        while sending := self.buffer.next_to_send():
            self.in_flight.append(sending[0])
            self.durable.add(sending[0])
            self.buffer.acknowledge(self.through(), self.ranges())
        assert self.buffer.all_sent()
        assert self.durable == set(range(1, len(self.sizes) + 1))
        assert len(self.buffer) == 0


TestStreaming = Streaming.TestCase
TestStreaming.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
