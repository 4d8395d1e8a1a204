"""Rules of runs: pure."""

from collections.abc import Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from rigmesh.v1.error_reason_pb2 import ACTIVE_CAPTURE_SESSIONS
from rigmesh.v1.run_pb2 import Run
from services.errors import FailedPrecondition, invalid_field
from services.state_machine import Guard, StateMachine, Transition, wrong_state

CHANGEABLE = ("name", "description", "status", "tags", "params", "metadata", "git_sha")
OPEN_EXPERIMENT = ("DRAFT", "RUNNING", "FINISHED", "FAILED")
ACTIVE_SESSION = ("DRAFT", "RUNNING", "BACKFILLING")
NAMED_SESSIONS = 20
RUN = StateMachine(
    "run",
    (
        Transition(("DRAFT",), "RUNNING", sets="started_at", event="run.started"),
        Transition(("RUNNING",), "SUCCEEDED", sets="ended_at", guard=Guard.NO_ACTIVE_SESSIONS, event="run.finished"),
        Transition(("RUNNING",), "FAILED", sets="ended_at", guard=Guard.NO_ACTIVE_SESSIONS, event="run.finished"),
        Transition(("DRAFT", "SUCCEEDED", "FAILED"), "ARCHIVED", event="run.archived"),
    ),
)
CHANGEABLE_IN = ("DRAFT", "RUNNING", "SUCCEEDED", "FAILED")


def merge(before: Run, changes: Run, fields: Sequence[str]) -> Run:
    """The run as it should become. InvalidArgument when a field is cleared that a run cannot be without."""
    wanted = Run()
    wanted.CopyFrom(before)
    FieldMask(paths=fields).MergeMessage(changes, wanted, True, True)
    for name in ("name", "status"):
        if not getattr(wanted, name):
            raise invalid_field(f"run.{name}", "cannot be cleared")
    return wanted


def step(before: Run, wanted: Run) -> Transition:
    """The transition that a change makes; one from the present state to itself where only other fields change."""
    status = Run.Status.Name(wanted.status)
    if wanted.status == before.status:
        return Transition(CHANGEABLE_IN, status, event="run.updated")
    return RUN.to(status)


def refusal(before: Run, wanted: Run) -> FailedPrecondition:
    """Why `step` is not possible."""
    status = Run.Status.Name(before.status)
    if wanted.status == before.status:
        return wrong_state("run", status, CHANGEABLE_IN)
    return RUN.illegal(status, Run.Status.Name(wanted.status))


def check_no_active_sessions(capture_session_ids: Sequence[str]) -> None:
    """FailedPrecondition when a run is to end with sessions that still take or await samples."""
    if capture_session_ids:
        raise FailedPrecondition(
            ACTIVE_CAPTURE_SESSIONS,
            f"a run cannot end while capture sessions are {', '.join(ACTIVE_SESSION)}",
            metadata={"capture_session_ids": ",".join(capture_session_ids)},
        )
