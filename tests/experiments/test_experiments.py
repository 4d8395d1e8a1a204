"""Experiments over the wire: create, get, list, and who may."""

import psycopg
import pytest
from uuid_utils import uuid7

from rigmesh.v1.experiment_pb2 import Experiment
from rigmesh.v1.experiment_service_pb2 import CreateExperimentRequest, GetExperimentRequest, ListExperimentsRequest
from rigmesh.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from tests.factory import events_of, make_experiment, rows
from tests.refusals import refused


async def test_what_is_created_is_read_back(lab):
    """Every field comes back; the server gives id, status and times."""
    created = await make_experiment(
        lab,
        name="Greifer, Öl 40 °C",
        description="two lines\nof text",
        tags=["grip", "oil"],
        metadata={"bench": 3, "limits": [1.5, None, True, {"deep": "yes"}]},
    )
    assert created.status == Experiment.DRAFT
    assert created.created_at == created.updated_at
    read = await lab.viewer.stub(ExperimentServiceStub).GetExperiment(
        GetExperimentRequest(experiment_id=created.experiment_id)
    )
    assert read == created
    assert dict(read.metadata)["bench"] == 3


async def test_creation_is_an_event(rig, lab):
    """The event holds the new experiment, who made it and where."""
    created = await make_experiment(lab, tags=["a"])
    [event] = await events_of(rig, created.experiment_id)
    assert (event["type"], event["resource"], event["before"]) == ("experiment.created", "experiment", None)
    assert (str(event["project_id"]), event["after"]["tags"]) == (lab.project_id, ["a"])
    assert event["actor"].startswith("user:")


async def test_list_is_newest_first_in_pages(lab):
    """Pages join without gap or overlap; the last has no token."""
    ids = [(await make_experiment(lab)).experiment_id for _ in range(5)]
    stub, seen, token = lab.viewer.stub(ExperimentServiceStub), [], ""
    while token or not seen:
        request = ListExperimentsRequest(project_id=lab.project_id, page_size=2, page_token=token)
        answer = await stub.ListExperiments(request)
        assert len(answer.experiments) <= 2
        seen += [experiment.experiment_id for experiment in answer.experiments]
        token = answer.next_page_token
    assert seen == ids[::-1]


async def test_page_token_belongs_to_its_request(lab):
    """A token of other filters is refused."""
    for _ in range(2):
        await make_experiment(lab, tags=["a"])
    stub = lab.viewer.stub(ExperimentServiceStub)
    first = await stub.ListExperiments(ListExperimentsRequest(page_size=1))
    other = ListExperimentsRequest(page_size=1, tags=["a"], page_token=first.next_page_token)
    with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN"):
        await stub.ListExperiments(other)


async def test_list_filters(rig, lab):
    """All of the tags; any of the states."""
    both = await make_experiment(lab, tags=["a", "b"])
    only_a = await make_experiment(lab, tags=["a"])
    await rows(rig, "UPDATE experiments SET status = 'RUNNING' WHERE experiment_id = %s", only_a.experiment_id)
    stub = lab.viewer.stub(ExperimentServiceStub)

    async def found(**filters):
        answer = await stub.ListExperiments(ListExperimentsRequest(project_id=lab.project_id, **filters))
        return [experiment.experiment_id for experiment in answer.experiments]

    assert await found(tags=["a"]) == [only_a.experiment_id, both.experiment_id]
    assert await found(tags=["b", "a"]) == [both.experiment_id]
    assert await found(status=["DRAFT"]) == [both.experiment_id]
    assert await found(status=["RUNNING", "FAILED"], tags=["a"]) == [only_a.experiment_id]
    assert await found(status=["ARCHIVED"]) == []


async def test_others_do_not_see_it(lab):
    """To an outsider the experiment and the project do not exist; a list without project holds only one's own."""
    created = await make_experiment(lab)
    stub = lab.outsider.stub(ExperimentServiceStub)
    with refused("NOT_FOUND", "NOT_FOUND") as absent:
        await stub.GetExperiment(GetExperimentRequest(experiment_id=str(uuid7())))
    with refused("NOT_FOUND", "NOT_FOUND") as foreign:
        await stub.GetExperiment(GetExperimentRequest(experiment_id=created.experiment_id))
    assert foreign.text == absent.text
    assert foreign.info.metadata == {"resource": "experiment", "id": created.experiment_id}
    with refused("NOT_FOUND", "NOT_FOUND"):
        await stub.ListExperiments(ListExperimentsRequest(project_id=lab.project_id))
    assert created not in (await stub.ListExperiments(ListExperimentsRequest())).experiments


async def test_viewer_cannot_create(lab):
    """Writing needs the editor role."""
    experiment = Experiment(project_id=lab.project_id, name="x")
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW") as refusal:
        await lab.viewer.stub(ExperimentServiceStub).CreateExperiment(CreateExperimentRequest(experiment=experiment))
    assert refusal.info.metadata == {"required_role": "EDITOR"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "experiment.name"),
        ({"name": "x" * 201}, "experiment.name"),
        ({"tags": ["no spaces"]}, "experiment.tags[0]"),
        ({"metadata": {str(key): key for key in range(65)}}, "experiment.metadata"),
    ],
)
async def test_limits_are_named(lab, fields, named):
    """A field that breaks its rule is named."""
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await make_experiment(lab, **fields)
    assert refusal.fields == [named]


async def test_database_refuses_unknown_state(rig, lab):
    """The CHECK stands behind the code."""
    created = await make_experiment(lab)
    with pytest.raises(psycopg.errors.CheckViolation):
        await rows(rig, "UPDATE experiments SET status = 'DONE' WHERE experiment_id = %s", created.experiment_id)
