"""The channels of a stream and the numbers that they have in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from rigmesh.v1.telemetry_ingest_pb2 import BoundChannel, ChannelBinding
from rigmesh_client.columns import Column, as_column

MAX_ALIASES = 1_024


@dataclass(frozen=True)
class Channel:
    """One signal that a stream carries."""

    signal: str
    """Letters, digits and `_ . -`, such as "ax"."""
    unit: str = ""
    """Of the raw values, such as "g"."""
    period_ns: int = 0
    """Nominal time between samples in nanoseconds; 0 = irregular or not known."""
    sensor_id: str = ""
    """Empty with a sensor's own token; needed with an API token."""

    @property
    def name(self) -> str:
        """How `send` names it: "signal", or "sensor_id/signal" where a sensor is given."""
        return f"{self.sensor_id}/{self.signal}" if self.sensor_id else self.signal


class ChannelTable:
    """The aliases of a stream: the n-th channel, from 1, has the alias n."""

    def __init__(self, channels: Sequence[Channel]):
        self._aliases: dict[str, int] = {}
        self._sessions: dict[int, str] = {}
        self.bindings: list[ChannelBinding] = []
        self.add(channels)

    def add(self, channels: Sequence[Channel]) -> None:
        """More channels. ValueError: a name that is taken, or more than 1024 in all; then none is added."""
        names = [channel.name for channel in channels]
        taken = sorted(name for name in set(names) if name in self._aliases or names.count(name) > 1)
        if taken:
            raise ValueError(f"channels are bound once, but again: {', '.join(taken)}")
        if len(self.bindings) + len(channels) > MAX_ALIASES:
            raise ValueError(f"a stream has at most {MAX_ALIASES} channels")
        for channel in channels:
            alias = len(self.bindings) + 1
            self._aliases[channel.name] = alias
            self.bindings.append(
                ChannelBinding(
                    alias=alias,
                    sensor_id=channel.sensor_id,
                    signal=channel.signal,
                    unit=channel.unit,
                    period_ns=channel.period_ns,
                )
            )

    def note_sessions(self, bound: Iterable[BoundChannel]) -> None:
        """Where the server puts each channel's samples; its first word on a channel holds."""
        for channel in bound:
            self._sessions.setdefault(channel.alias, channel.capture_session_id)

    def forget_sessions(self) -> None:
        """What the server said does not hold any more."""
        self._sessions.clear()

    @property
    def session(self) -> str:
        """The one session of all channels; empty when there is none, or more than one."""
        sessions = set(self._sessions.values())
        return sessions.pop() if len(sessions) == 1 else ""

    def name(self, alias: int) -> str:
        """The name of a channel; its number if there is none."""
        return next((name for name, known in self._aliases.items() if known == alias), str(alias))

    def columns(self, values: Mapping[str, ArrayLike]) -> dict[int, Column]:
        """Columns by alias, of equal length. ValueError: no column, an unknown channel, or lengths that differ."""
        unknown = sorted(values.keys() - self._aliases.keys())
        if unknown or not values:
            known = ", ".join(list(self._aliases)[:8])
            raise ValueError(f"no such channel: {', '.join(unknown)}; bound are {known}" if values else "no values")
        columns = {self._aliases[name]: as_column(column) for name, column in values.items()}
        lengths = {column.size for column in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns differ in length: {sorted(lengths)}")
        return columns
