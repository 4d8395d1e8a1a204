"""RunService."""

from rigmesh.v1.run_pb2 import Run, RunSensor
from rigmesh.v1.run_service_pb2 import (
    AttachSensorRequest,
    CreateRunRequest,
    GetRunRequest,
    ListRunsRequest,
    ListRunsResponse,
    UpdateRunRequest,
)
from services.db.mask import check_same_id, masked_fields
from services.db.page import open_page
from services.db.pool import Connection
from services.rpc.call import Call
from services.runs import queries, rules
from services.state_machine import Guard, wrong_state


async def CreateRun(request: CreateRunRequest, call: Call) -> Run:
    run = await queries.insert_run(call.db, request.experiment_id, request.run)
    if run is None:
        status = await queries.select_experiment_status(call.db, request.experiment_id)
        raise wrong_state("experiment", status, rules.OPEN_EXPERIMENT)
    call.emit("run", run.run_id, project_id=run.project_id, after=run)
    return run


async def GetRun(request: GetRunRequest, call: Call) -> Run:
    return await queries.select_run(call.db, request.run_id)


async def ListRuns(request: ListRunsRequest, call: Call) -> ListRunsResponse:
    page = open_page(request, call.key("page"))
    rows = await queries.select_runs(call.db, call.principal.user_id, request, page)
    runs, next_page_token = page.cut(rows, lambda run: run.run_id)
    return ListRunsResponse(runs=runs, next_page_token=next_page_token)


async def UpdateRun(request: UpdateRunRequest, call: Call) -> Run:
    check_same_id("run.run_id", request.run_id, request.run.run_id)
    fields = masked_fields(request.run, request.update_mask, rules.CHANGEABLE)
    before = await queries.select_run(call.db, request.run_id, lock=True)
    wanted = rules.merge(before, request.run, fields)
    after = before if wanted == before else await _change(call.db, before, wanted)
    event = rules.step(before, wanted).event
    call.emit("run", after.run_id, project_id=after.project_id, before=before, after=after, type=event)
    return after


async def AttachSensor(request: AttachSensorRequest, call: Call) -> RunSensor:
    run = await queries.select_run(call.db, request.run_id, lock=True)
    if run.status == Run.ARCHIVED:
        raise wrong_state("run", "ARCHIVED", rules.CHANGEABLE_IN)
    before = await queries.select_run_sensor(call.db, run.run_id, request.sensor_id)
    after = before or await queries.insert_run_sensor(call.db, run, request.sensor_id)
    call.emit("run", run.run_id, project_id=run.project_id, before=before, after=after)
    return after


async def _change(db: Connection, before: Run, wanted: Run) -> Run:
    transition = rules.step(before, wanted)
    after = await queries.update_run(db, wanted, transition)
    if after is None:
        raise rules.refusal(before, wanted)
    if transition.guard is Guard.NO_ACTIVE_SESSIONS:
        rules.check_no_active_sessions(await queries.select_active_sessions(db, wanted.run_id))
    return after
