"""Rules of capture sessions: pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.errors import invalid_field, not_found
from services.state_machine import Guard, StateMachine, Transition, wrong_state

CAPTURE_SESSION = StateMachine(
    "capture_session",
    (
        Transition(("DRAFT",), "RUNNING", sets="started_at", guard=Guard.RUN_IS_RUNNING),
        Transition(("RUNNING",), "SUCCEEDED", sets="ended_at"),
        Transition(("RUNNING",), "FAILED", sets="ended_at"),
    ),
)
# The states of a run in which a session may be created, by whether it starts at once.
RUN_STATES = {True: ("RUNNING",), False: ("DRAFT", "RUNNING")}
PINNABLE = ("SCHEDULED", "ACTIVE", "DEPRECATED")


@dataclass(frozen=True)
class Profile:
    """A profile version of a sensor of the project."""

    conversion_profile_id: str
    sensor_id: str
    status: str


def check_run(status: str, *, start: bool) -> None:
    """FailedPrecondition when a run in this state takes no new session, or none that starts."""
    if status not in RUN_STATES[start]:
        raise wrong_state("run", status, RUN_STATES[start])


def check_pins(pinned: Iterable[str], profiles: Mapping[str, Profile]) -> None:
    """Whether these profile ids may be pinned together, given those of them that exist in the project."""
    sensors = set[str]()
    for profile_id in pinned:
        # UUIDs come in either case from outside.
        profile = profiles.get(profile_id.lower())
        if profile is None:
            raise not_found("conversion_profile", profile_id)
        if profile.status not in PINNABLE:
            raise wrong_state("conversion_profile", profile.status, PINNABLE)
        if profile.sensor_id in sensors:
            raise invalid_field("capture_session.pinned_profile_ids", "must name at most one version of a sensor")
        sensors.add(profile.sensor_id)
