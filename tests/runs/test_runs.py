"""Runs over the wire: create, get, list, update, and who may."""

import asyncio

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from uuid_utils import uuid7

from rigmesh.v1.run_pb2 import Run
from rigmesh.v1.run_service_pb2 import CreateRunRequest, GetRunRequest, ListRunsRequest, UpdateRunRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from tests.factory import events_of, make_experiment, make_project, make_run, rows
from tests.refusals import refused


def update(caller, run, *mask, **fields):
    request = UpdateRunRequest(run_id=run.run_id, run=Run(**fields), update_mask=FieldMask(paths=mask))
    return caller.stub(RunServiceStub).UpdateRun(request)


async def test_what_is_created_is_read_back(lab):
    """Every field comes back; a status in the request is ignored; the project is the experiment's."""
    created = await make_run(
        lab,
        name="Lauf 1",
        description="with oil",
        status="DRAFT",
        tags=["oil"],
        params={"speed": 1.25, "axes": ["x", "y"]},
        metadata={"operator": "Zoë"},
        git_sha="0123abc",
    )
    assert (created.status, created.project_id) == (Run.DRAFT, lab.project_id)
    assert not created.HasField("started_at")
    read = await lab.viewer.stub(RunServiceStub).GetRun(GetRunRequest(run_id=created.run_id))
    assert read == created
    assert read.params["speed"] == 1.25


async def test_creation_ignores_what_the_server_sets(lab):
    """Ids, states and times of another run, copied along, do no harm."""
    old = await make_run(lab, "SUCCEEDED")
    request = CreateRunRequest(experiment_id=old.experiment_id, run=old)
    new = await lab.editor.stub(RunServiceStub).CreateRun(request)
    assert new.run_id != old.run_id
    assert (new.status, new.HasField("started_at"), new.name) == (Run.DRAFT, False, old.name)


async def test_archived_experiment_takes_no_runs(rig, lab):
    """The refusal names the state and the ones that would do."""
    experiment = await make_experiment(lab)
    await rows(rig, "UPDATE experiments SET status = 'ARCHIVED' WHERE experiment_id = %s", experiment.experiment_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        await make_run(lab, experiment_id=experiment.experiment_id)
    assert refusal.info.metadata == {
        "resource": "experiment",
        "status": "ARCHIVED",
        "allowed": "DRAFT,RUNNING,FINISHED,FAILED",
    }


async def test_a_run_needs_a_name(lab):
    """At creation by the contract, later because it cannot be cleared."""
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
        await make_run(lab, name="")
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await update(lab.editor, await make_run(lab), "name")
    assert refusal.fields == ["run.name"]


async def test_update_without_mask_takes_what_is_set(rig, lab):
    """Other fields stay; the event tells both sides."""
    before = await make_run(lab, description="old", tags=["a"])
    after = await update(lab.editor, before, description="new")
    assert (after.description, after.name, list(after.tags)) == ("new", before.name, ["a"])
    assert after.updated_at.ToNanoseconds() > before.updated_at.ToNanoseconds()
    event = (await events_of(rig, before.run_id))[-1]
    assert event["type"] == "run.updated"
    assert (event["before"]["description"], event["after"]["description"]) == ("old", "new")


async def test_update_clears_by_mask(lab):
    """A field that is named and absent is cleared."""
    before = await make_run(lab, description="old", tags=["a"], params={"a": 1}, git_sha="0123abc")
    after = await update(lab.editor, before, "description", "tags", "params", "git_sha")
    assert (after.description, list(after.tags), dict(after.params), after.git_sha) == ("", [], {}, "")


async def test_update_changes_state_and_fields_at_once(rig, lab):
    """One call, one event, of the transition's type."""
    before = await make_run(lab)
    after = await update(lab.editor, before, "status", "tags", status="RUNNING", tags=["live"], name="ignored")
    assert (after.status, list(after.tags), after.name) == (Run.RUNNING, ["live"], before.name)
    assert [event["type"] for event in await events_of(rig, before.run_id)] == ["run.created", "run.started"]


async def test_concurrent_updates_lose_nothing(lab):
    """Changes of different fields at the same time all stay."""
    run = await make_run(lab)
    changes = {"name": "n", "description": "d", "tags": ["t"], "params": {"p": 1}, "git_sha": "abcdef0"}
    await asyncio.gather(*(update(lab.editor, run, name, **{name: value}) for name, value in changes.items()))
    after = await lab.viewer.stub(RunServiceStub).GetRun(GetRunRequest(run_id=run.run_id))
    expected = Run(**changes)
    assert all(getattr(after, name) == getattr(expected, name) for name in changes)


@pytest.mark.parametrize("mask", [["run_id"], ["started_at"], ["params.speed"], ["nonsense"], ["*"], ["name", "x"]])
async def test_unknown_fields_in_a_mask(lab, mask):
    """Also those that only the server sets."""
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await update(lab.editor, await make_run(lab), *mask, name="x")
    assert refusal.fields == ["update_mask"]


async def test_an_update_that_names_nothing(lab):
    """Output-only fields in the body are nothing."""
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
        await update(lab.editor, await make_run(lab), experiment_id=str(uuid7()))


async def test_id_in_the_body(lab):
    """The same id is fine, another one is refused."""
    run, other = await make_run(lab), await make_run(lab)
    assert (await update(lab.editor, run, run_id=run.run_id, name="same")).name == "same"
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await update(lab.editor, run, run_id=other.run_id, name="other")
    assert refusal.fields == ["run.run_id"]


@pytest.mark.parametrize("change", [{"name": "new"}, {"tags": ["a"]}, {"status": "ARCHIVED", "name": "new"}])
async def test_archived_run_changes_nothing(lab, change):
    """It is final."""
    run = await make_run(lab, "ARCHIVED")
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        await update(lab.editor, run, **change)
    assert refusal.info.metadata["status"] == "ARCHIVED"


async def test_list_is_newest_first_in_pages(lab):
    """Pages join without gap or overlap, also while runs are added."""
    experiment_id = (await make_experiment(lab)).experiment_id
    ids = [(await make_run(lab, experiment_id=experiment_id)).run_id for _ in range(5)]
    stub, seen, token = lab.viewer.stub(RunServiceStub), [], ""
    while token or not seen:
        request = ListRunsRequest(experiment_id=experiment_id, page_size=2, page_token=token)
        answer = await stub.ListRuns(request)
        seen += [run.run_id for run in answer.runs]
        token = answer.next_page_token
        await make_run(lab, experiment_id=experiment_id)
    assert seen == ids[::-1]


async def test_list_filters(lab):
    """By experiment, project, all of the tags, any of the states."""
    draft = await make_run(lab, tags=["a", "b"])
    running = await make_run(lab, "RUNNING", tags=["a"])
    stub = lab.viewer.stub(RunServiceStub)

    async def found(**filters):
        request = ListRunsRequest(project_id=lab.project_id, **filters)
        return [run.run_id for run in (await stub.ListRuns(request)).runs]

    assert await found() == [running.run_id, draft.run_id]
    assert await found(experiment_id=draft.experiment_id) == [draft.run_id]
    assert await found(tags=["b", "a"]) == [draft.run_id]
    assert await found(status=["RUNNING", "FAILED"]) == [running.run_id]
    assert await found(status=["STATUS_UNSPECIFIED"]) == []


async def test_list_holds_only_what_one_may_see(rig, lab):
    """Without a filter: of all projects that the caller is a member of, and of no other."""
    mine = await make_run(lab)
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR"})
    theirs = await make_run(lab, experiment_id=(await make_experiment(lab, project_id=second)).experiment_id)
    everything = await lab.editor.stub(RunServiceStub).ListRuns(ListRunsRequest())
    assert list(everything.runs[:2]) == [theirs, mine]
    part = await lab.viewer.stub(RunServiceStub).ListRuns(ListRunsRequest())
    assert part.runs[0] == mine
    assert theirs not in part.runs
    with refused("NOT_FOUND", "NOT_FOUND"):
        await lab.viewer.stub(RunServiceStub).ListRuns(ListRunsRequest(project_id=second))


async def test_viewer_cannot_write(lab):
    """Neither create nor change."""
    run = await make_run(lab)
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await update(lab.viewer, run, name="x")
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        request = CreateRunRequest(experiment_id=run.experiment_id, run=Run(name="x"))
        await lab.viewer.stub(RunServiceStub).CreateRun(request)


async def test_outsider_sees_nothing(lab):
    """Read, change and create look as if the run and the experiment were not there."""
    run, stub = await make_run(lab), lab.outsider.stub(RunServiceStub)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await stub.GetRun(GetRunRequest(run_id=run.run_id))
    with refused("NOT_FOUND", "NOT_FOUND"):
        await update(lab.outsider, run, name="x")
    with refused("NOT_FOUND", "NOT_FOUND"):
        await stub.CreateRun(CreateRunRequest(experiment_id=run.experiment_id, run=Run(name="x")))
    with refused("NOT_FOUND", "NOT_FOUND"):
        await stub.ListRuns(ListRunsRequest(experiment_id=run.experiment_id))
