"""Rules of runs, without a database."""

import pytest

from rigmesh.v1.run_pb2 import Run
from services.errors import InvalidArgument
from services.runs import rules

BEFORE = Run(run_id="r", name="first", tags=["a"], params={"gain": 2}, git_sha="abcdef0", status="RUNNING")


def test_merge_takes_only_the_named_fields():
    changes = Run(run_id="other", name="second", description="text", tags=["b", "c"])
    wanted = rules.merge(BEFORE, changes, ["name", "tags"])
    assert (wanted.run_id, wanted.name, wanted.description, list(wanted.tags)) == ("r", "second", "", ["b", "c"])
    assert (wanted.status, wanted.git_sha, dict(wanted.params)) == (Run.RUNNING, "abcdef0", {"gain": 2})


def test_merge_clears_what_is_named_and_absent():
    wanted = rules.merge(BEFORE, Run(), ["tags", "params", "git_sha"])
    assert (list(wanted.tags), wanted.HasField("params"), wanted.git_sha) == ([], False, "")


def test_merge_replaces_params_as_a_whole():
    wanted = rules.merge(BEFORE, Run(params={"speed": 1}), ["params"])
    assert dict(wanted.params) == {"speed": 1}


@pytest.mark.parametrize("field", ["name", "status"])
def test_merge_keeps_what_a_run_cannot_be_without(field):
    with pytest.raises(InvalidArgument, match=f"run.{field}: cannot be cleared"):
        rules.merge(BEFORE, Run(), [field])


def test_step_to_the_present_state_is_no_transition():
    step = rules.step(BEFORE, Run(status="RUNNING"))
    assert (step.target, step.sets, step.guard, step.event) == ("RUNNING", "", None, "run.updated")
    assert "ARCHIVED" not in step.sources
