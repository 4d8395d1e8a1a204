"""The channels of one stream by alias."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.error_reason_pb2 import ALIAS_TAKEN, TOO_MANY_ALIASES, WRONG_VALUE_TYPE, ErrorReason
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestResponse
from services.db.pool import Pool
from services.errors import FailedPrecondition
from services.telemetry.ingest.batches import Channel, Pending
from services.telemetry.ingest.channels import BindingError, Scope, bind, claim_value_type
from services.telemetry.ingest.intake import value_type

MAX_ALIASES = 1024


class Bindings:
    """Grows by Open and Bind. `refused` keeps what refused bindings named. The session is that of Open, or empty."""

    def __init__(self, pool: Pool, scope: Scope, capture_session_id: str) -> None:
        self._pool, self._scope, self._session = pool, scope, capture_session_id
        self.channels: dict[int, Channel] = {}
        self.refused: dict[int, Channel] = {}

    async def open(self, bindings: Iterable[pb.ChannelBinding]) -> tuple[list[pb.BoundChannel], list[pb.Reject]]:
        """Binds what can be bound, at the beginning of a stream or upload.

        FailedPrecondition AMBIGUOUS_SESSION ends it: all of its samples would be refused on their way otherwise.
        """
        bound, errors = await self._bind_each(bindings)
        for error in errors.values():
            if error.running:
                ids = ",".join(error.running)
                raise FailedPrecondition(error.reason, error.message, metadata={"capture_session_ids": ids})
        return bound, _rejects(errors)

    async def bind(self, bindings: Iterable[pb.ChannelBinding]) -> list[TelemetryIngestResponse]:
        """Binds what can be bound: one Bound, and a Reject for each of the others."""
        bound, errors = await self._bind_each(bindings)
        responses = [TelemetryIngestResponse(bound=pb.Bound(channels=bound))]
        return responses + [TelemetryIngestResponse(reject=refused) for refused in _rejects(errors)]

    async def _bind_each(
        self, bindings: Iterable[pb.ChannelBinding]
    ) -> tuple[list[pb.BoundChannel], dict[int, BindingError]]:
        bound, errors = list[pb.BoundChannel](), dict[int, BindingError]()
        async with self._pool.connection() as db:
            for binding in bindings:
                try:
                    self._check_alias(binding)
                    async with db.transaction():
                        channel = await bind(db, self._scope, self._session, binding)
                except BindingError as error:
                    errors[binding.alias] = error
                    self._keep_refused(binding)
                else:
                    self.channels[channel.alias] = channel
                    bound.append(_bound(channel))
        return bound, errors

    def _check_alias(self, binding: pb.ChannelBinding) -> None:
        known = self.channels.get(binding.alias)
        if known is None and len(self.channels) >= MAX_ALIASES:
            raise BindingError(TOO_MANY_ALIASES, f"at most {MAX_ALIASES} aliases")
        own = self._scope.scope_id if self._scope.kind == "SENSOR" else ""
        if known is not None and (known.sensor_id, known.signal) != (binding.sensor_id or own, binding.signal):
            raise BindingError(ALIAS_TAKEN, f"alias {binding.alias} is bound to another channel")

    def _keep_refused(self, binding: pb.ChannelBinding) -> None:
        if len(self.refused) < MAX_ALIASES:
            self.refused[binding.alias] = Channel(
                binding.alias, 0, binding.sensor_id, binding.signal, binding.unit, self._session
            )

    async def settle_types(self, pending: Pending) -> None:
        """Gives channels without a value type that of their first samples; another stream may have been faster."""
        for taken in list(pending.taken):
            channel = self.channels[taken.series.alias]
            given = value_type(taken.series)
            if channel.value_type is None:
                async with self._pool.connection() as db:
                    settled = await claim_value_type(db, channel.channel_id, given)
                channel = self.channels[channel.alias] = replace(channel, value_type=settled)
            if channel.value_type != given:
                pending.taken.remove(taken)
                text = f"the channel holds {channel.value_type} values"
                pending.refusals.append(taken.refuse(WRONG_VALUE_TYPE, text))

    async def note_loss(self, loss: pb.Loss, clock_id: int) -> bool:
        """Keeps what a device says it lost, once however often it is told; False for an unknown alias."""
        channel = self.channels.get(loss.alias)
        if channel is None:
            return False
        async with self._pool.connection() as db:
            await db.execute(
                """INSERT INTO channel_losses
                    (channel_id, clock_id, from_ns, to_ns, count, reason, capture_session_id, received_at)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                ON CONFLICT (channel_id, clock_id, from_ns, to_ns) DO NOTHING""",
                (
                    channel.channel_id,
                    clock_id,
                    loss.from_ns,
                    loss.to_ns,
                    loss.count,
                    loss.reason,
                    channel.capture_session_id or None,
                    datetime.now(UTC),
                ),
            )
        return True


def _bound(channel: Channel) -> pb.BoundChannel:
    return pb.BoundChannel(
        alias=channel.alias,
        sensor_id=channel.sensor_id,
        signal=channel.signal,
        capture_session_id=channel.capture_session_id,
        conversion_profile_id=channel.conversion_profile_id,
    )


def _rejects(errors: Mapping[int, BindingError]) -> list[pb.Reject]:
    return [
        pb.Reject(alias=alias, reason=ErrorReason.Name(error.reason), message=error.message, permanent=True)
        for alias, error in errors.items()
    ]
