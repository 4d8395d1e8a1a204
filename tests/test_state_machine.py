"""The tables of all state machines against the contract."""

import pytest

from rigmesh.v1.capture_session_pb2 import CaptureSession
from rigmesh.v1.conversion_profile_pb2 import ConversionProfile
from rigmesh.v1.run_pb2 import Run
from services.captures.rules import CAPTURE_SESSION
from services.conversion_profiles.rules import CONVERSION_PROFILE
from services.runs.rules import RUN
from services.state_machine import StateMachine, Transition, wrong_state

MACHINES = [(RUN, Run), (CAPTURE_SESSION, CaptureSession), (CONVERSION_PROFILE, ConversionProfile)]


@pytest.mark.parametrize(("machine", "resource"), MACHINES)
def test_tables_use_the_words_of_the_contract(machine, resource):
    """States and timestamps are those of the message; a target is in one row; nothing begins anew as DRAFT."""
    targets = [row.target for row in machine.transitions]
    assert len(targets) == len(set(targets))
    states = {*targets, *(source for row in machine.transitions for source in row.sources)}
    assert states <= set(resource.Status.keys()) - {"STATUS_UNSPECIFIED"}
    assert "DRAFT" not in targets
    assert {row.sets for row in machine.transitions} - {""} <= set(resource.DESCRIPTOR.fields_by_name)


def test_a_refusal_names_the_ways_out():
    machine = StateMachine("lamp", (Transition(("OFF",), "ON"), Transition(("OFF", "ON"), "BROKEN")))
    refusal = machine.illegal("ON", "OFF")
    assert refusal.message == "a lamp cannot go from ON to OFF; allowed: BROKEN"
    assert refusal.metadata == {"resource": "lamp", "from": "ON", "to": "OFF", "allowed": "BROKEN"}
    assert machine.illegal("BROKEN", "ON").message.endswith("allowed: nothing")
    assert machine.to("OFF").sources == ()


def test_a_wrong_state_names_the_right_ones():
    refusal = wrong_state("run", "FAILED", ("DRAFT", "RUNNING"))
    assert refusal.message == "the run is FAILED; it must be DRAFT or RUNNING"
    assert refusal.metadata == {"resource": "run", "status": "FAILED", "allowed": "DRAFT,RUNNING"}
