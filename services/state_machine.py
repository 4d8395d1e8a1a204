"""State machines as tables: one row a transition. The slices' `rules.py` hold the tables; tests read them too."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from rigmesh.v1.error_reason_pb2 import ILLEGAL_TRANSITION, WRONG_STATE
from services.errors import FailedPrecondition


class Guard(Enum):
    """What must hold beside the source state; the slice that owns the table checks it."""

    RUN_IS_RUNNING = "the run is RUNNING"
    NO_ACTIVE_SESSIONS = "no capture session is DRAFT, RUNNING or BACKFILLING"


@dataclass(frozen=True)
class Transition:
    """From any of `sources` to `target`.

    `sets` names the timestamp that the server sets, `guard` says what else must hold, `event` is the type of the event
    where it is not the RPC's audit verb.
    """

    sources: tuple[str, ...]
    target: str
    sets: str = ""
    guard: Guard | None = None
    event: str = ""


@dataclass(frozen=True)
class StateMachine:
    """The transitions of one resource; a target is in one row at most."""

    resource: str
    transitions: tuple[Transition, ...]

    def to(self, target: str) -> Transition:
        """The row that leads to `target`; without sources when nothing does, so that a guarded UPDATE finds no row."""
        return next((row for row in self.transitions if row.target == target), Transition((), target))

    def allowed(self, source: str) -> list[str]:
        """Where one can go from `source`."""
        return [row.target for row in self.transitions if source in row.sources]

    def illegal(self, source: str, target: str) -> FailedPrecondition:
        """What the caller is told when `target` cannot be reached from `source`."""
        allowed = self.allowed(source)
        return FailedPrecondition(
            ILLEGAL_TRANSITION,
            f"a {self.resource} cannot go from {source} to {target}; allowed: {', '.join(allowed) or 'nothing'}",
            metadata={"resource": self.resource, "from": source, "to": target, "allowed": ",".join(allowed)},
        )


def wrong_state(resource: str, status: str, allowed: Sequence[str]) -> FailedPrecondition:
    """What the caller is told when a resource must be in one of `allowed` for this and is not."""
    return FailedPrecondition(
        WRONG_STATE,
        f"the {resource} is {status}; it must be {' or '.join(allowed)}",
        metadata={"resource": resource, "status": status, "allowed": ",".join(allowed)},
    )
