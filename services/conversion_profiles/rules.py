"""Rules of conversion profiles: pure."""

from rigmesh.v1.conversion_profile_pb2 import ConversionProfile
from services.state_machine import StateMachine, Transition

CONVERSION_PROFILE = StateMachine(
    "conversion_profile",
    (
        Transition(("DRAFT",), "ACTIVE", sets="published_at"),
        Transition(("ACTIVE",), "DEPRECATED", event="conversion_profile.deprecated"),
    ),
)


def signals(*profiles: ConversionProfile | None) -> list[str]:
    """The signals that any of the versions converts."""
    return sorted({conversion.signal for profile in profiles if profile for conversion in profile.conversions})
