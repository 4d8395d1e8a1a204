"""Physical values are a view: raw values through the profile version that holds for the sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from rigmesh.v1.telemetry_pb2 import RAW, View
from services.db.pool import Connection
from services.telemetry.reads.merge import Piece
from services.telemetry.reads.selection import SelectedChannel
from services.telemetry.reads.stored import FOREVER_NS
from services.telemetry.series import Values


@dataclass(frozen=True)
class Conversion:
    """physical = scale · raw + offset; the identity with an empty profile id where nothing is converted."""

    conversion_profile_id: str
    unit: str
    scale: float = 1.0
    offset: float = 0.0

    def apply(self, values: Values) -> Values:
        """Converted values; raw ones as they are."""
        if not self.conversion_profile_id:
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            return self.scale * values.astype(np.float64) + self.offset


@dataclass(frozen=True)
class Stretch:
    """A conversion that holds from start_ns until end_ns."""

    start_ns: int
    end_ns: int
    conversion: Conversion


@dataclass(frozen=True)
class Converter:
    """All conversions of a channel: by time, and by session where one is pinned, which then wins."""

    timeline: tuple[Stretch, ...]
    pinned: dict[str, Conversion] = field(default_factory=dict)

    def stretches(self, capture_session_id: str | None, start_ns: int, end_ns: int) -> Iterator[Stretch]:
        """The conversions that hold in start_ns ≤ t < end_ns, in time order, without gaps."""
        pinned = self.pinned.get(capture_session_id or "")
        if pinned is not None:
            yield Stretch(start_ns, end_ns, pinned)
            return
        for stretch in self.timeline:
            if stretch.start_ns < end_ns and stretch.end_ns > start_ns:
                yield Stretch(max(stretch.start_ns, start_ns), min(stretch.end_ns, end_ns), stretch.conversion)

    def convert(self, piece: Piece) -> Iterator[tuple[Conversion, Piece]]:
        """The piece cut where the conversion changes, with converted values."""
        if not len(piece.time_ns):
            return
        for stretch in self.stretches(piece.capture_session_id, int(piece.time_ns[0]), int(piece.time_ns[-1]) + 1):
            first, last = np.searchsorted(piece.time_ns, (stretch.start_ns, stretch.end_ns))
            if first < last:
                values = stretch.conversion.apply(piece.values[first:last])
                yield stretch.conversion, Piece(piece.time_ns[first:last], values, piece.capture_session_id, piece.late)


async def converters_for(
    db: Connection, channels: Sequence[SelectedChannel], view: View.ValueType
) -> Mapping[int, Converter]:
    """The converters that a view asks for, by channel_id."""
    if view == RAW:
        return {channel.channel_id: _raw(channel) for channel in channels}
    return await _physical(db, channels)


def _raw(channel: SelectedChannel) -> Converter:
    """Leaves values as they were sent."""
    return Converter((Stretch(-FOREVER_NS, FOREVER_NS, Conversion("", channel.unit)),))


async def _physical(db: Connection, channels: Sequence[SelectedChannel]) -> dict[int, Converter]:
    """The converters of channels by channel_id."""
    mappings = await _mappings(db, channels)
    pins = await _pins(db, channels)
    return {
        channel.channel_id: Converter(
            timeline(Conversion("", channel.unit), mappings.get(channel.channel_id, [])),
            pins.get(channel.channel_id, {}),
        )
        for channel in channels
    }


def timeline(identity: Conversion, mappings: Sequence[tuple[int, int, Conversion]]) -> tuple[Stretch, ...]:
    """Paints mappings (start_ns, end_ns, conversion) over each other, the last on top, on the identity."""
    borders = sorted({-FOREVER_NS, FOREVER_NS, *(border for mapping in mappings for border in mapping[:2])})
    painted = list[Stretch]()
    for start, end in pairwise(borders):
        holds = [conversion for first, last, conversion in mappings if first <= start and end <= last]
        painted.append(Stretch(start, end, holds[-1] if holds else identity))
    return tuple(painted)


async def _mappings(
    db: Connection, channels: Sequence[SelectedChannel]
) -> dict[int, list[tuple[int, int, Conversion]]]:
    cursor = await db.execute(
        """SELECT channel_id, unit, conversion_profile_id, conversion,
            CASE WHEN lower_inf(valid) OR lower(valid) = '-infinity' THEN NULL
                ELSE (extract(epoch FROM lower(valid)) * 1000000)::bigint * 1000 END,
            CASE WHEN upper_inf(valid) OR upper(valid) = 'infinity' THEN NULL
                ELSE (extract(epoch FROM upper(valid)) * 1000000)::bigint * 1000 END
        FROM channel_profiles JOIN channels USING (channel_id) JOIN conversion_profiles USING (conversion_profile_id)
        LEFT JOIN LATERAL (SELECT conversion FROM jsonb_array_elements(conversions) AS conversion
            WHERE conversion ->> 'signal' = signal) c ON true
        WHERE channel_id = ANY(%s) ORDER BY channel_profile_id""",
        ([channel.channel_id for channel in channels],),
    )
    found: dict[int, list[tuple[int, int, Conversion]]] = {}
    async for channel_id, unit, profile_id, conversion, start_ns, end_ns in cursor:
        stretch = (
            -FOREVER_NS if start_ns is None else start_ns,
            FOREVER_NS if end_ns is None else end_ns,
            _conversion(profile_id, unit, conversion),
        )
        found.setdefault(channel_id, []).append(stretch)
    return found


async def _pins(db: Connection, channels: Sequence[SelectedChannel]) -> dict[int, dict[str, Conversion]]:
    cursor = await db.execute(
        """SELECT channel_id, capture_session_id, unit, conversion_profile_id, conversion
        FROM session_profiles p JOIN channels c USING (sensor_id) JOIN conversion_profiles USING (conversion_profile_id)
        JOIN session_channels USING (channel_id, capture_session_id)
        LEFT JOIN LATERAL (SELECT conversion FROM jsonb_array_elements(conversions) AS conversion
            WHERE conversion ->> 'signal' = c.signal) l ON true
        WHERE channel_id = ANY(%s)""",
        ([channel.channel_id for channel in channels],),
    )
    found: dict[int, dict[str, Conversion]] = {}
    async for channel_id, session_id, unit, profile_id, conversion in cursor:
        found.setdefault(channel_id, {})[session_id] = _conversion(profile_id, unit, conversion)
    return found


def _conversion(profile_id: str, raw_unit: str, conversion: dict[str, Any] | None) -> Conversion:
    if conversion is None:  # the version says nothing of this signal: it is read as it was sent
        return Conversion("", raw_unit)
    linear = conversion["linear"]
    return Conversion(profile_id, conversion.get("unit", ""), linear["scale"], linear.get("offset", 0.0))
