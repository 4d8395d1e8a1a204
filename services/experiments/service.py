"""ExperimentService."""

from rigmesh.v1.experiment_pb2 import Experiment
from rigmesh.v1.experiment_service_pb2 import (
    CreateExperimentRequest,
    GetExperimentRequest,
    ListExperimentsRequest,
    ListExperimentsResponse,
)
from services.db.page import open_page
from services.experiments import queries
from services.rpc.call import Call


async def CreateExperiment(request: CreateExperimentRequest, call: Call) -> Experiment:
    experiment = await queries.insert_experiment(call.db, request.experiment)
    call.emit("experiment", experiment.experiment_id, project_id=experiment.project_id, after=experiment)
    return experiment


async def GetExperiment(request: GetExperimentRequest, call: Call) -> Experiment:
    return await queries.select_experiment(call.db, request.experiment_id)


async def ListExperiments(request: ListExperimentsRequest, call: Call) -> ListExperimentsResponse:
    page = open_page(request, call.key("page"))
    rows = await queries.select_experiments(call.db, call.principal.user_id, request, page)
    experiments, next_page_token = page.cut(rows, lambda experiment: experiment.experiment_id)
    return ListExperimentsResponse(experiments=experiments, next_page_token=next_page_token)
