"""Makes what a test needs in its project, through the API; every field can be given."""

from typing import Any

import psycopg
from psycopg.rows import dict_row
from uuid_utils import uuid7

from rigmesh.v1 import (
    capture_service_pb2_grpc,
    conversion_profile_service_pb2_grpc,
    experiment_service_pb2_grpc,
    run_service_pb2_grpc,
    sensor_service_pb2_grpc,
)
from rigmesh.v1.capture_service_pb2 import CreateCaptureSessionRequest
from rigmesh.v1.capture_session_pb2 import CaptureSession
from rigmesh.v1.conversion_profile_pb2 import ConversionProfile
from rigmesh.v1.conversion_profile_service_pb2 import CreateConversionProfileRequest, PublishConversionProfileRequest
from rigmesh.v1.experiment_pb2 import Experiment
from rigmesh.v1.experiment_service_pb2 import CreateExperimentRequest
from rigmesh.v1.run_pb2 import Run
from rigmesh.v1.run_service_pb2 import CreateRunRequest, UpdateRunRequest
from rigmesh.v1.sensor_pb2 import Sensor
from rigmesh.v1.sensor_service_pb2 import CreateSensorRequest

WAY = {
    "DRAFT": (),
    "RUNNING": ("RUNNING",),
    "SUCCEEDED": ("RUNNING", "SUCCEEDED"),
    "FAILED": ("RUNNING", "FAILED"),
    "ARCHIVED": ("ARCHIVED",),
}


async def make_experiment(lab: Any, **fields: Any) -> Experiment:
    stub = lab.editor.stub(experiment_service_pb2_grpc.ExperimentServiceStub)
    experiment = Experiment(**{"project_id": lab.project_id, "name": "grip", **fields})
    return await stub.CreateExperiment(CreateExperimentRequest(experiment=experiment))


async def make_run(lab: Any, status: str = "DRAFT", experiment_id: str = "", **fields: Any) -> Run:
    """A run that was brought to `status`, in an experiment of its own unless one is given."""
    stub = lab.editor.stub(run_service_pb2_grpc.RunServiceStub)
    experiment_id = experiment_id or (await make_experiment(lab)).experiment_id
    run = await stub.CreateRun(CreateRunRequest(experiment_id=experiment_id, run=Run(**{"name": "first", **fields})))
    for step in WAY[status]:
        run = await stub.UpdateRun(UpdateRunRequest(run_id=run.run_id, run=Run(status=step)))
    return run


async def make_session(lab: Any, run_id: str, *, start: bool = True, **fields: Any) -> CaptureSession:
    stub = lab.editor.stub(capture_service_pb2_grpc.CaptureServiceStub)
    session = CaptureSession(**fields)
    return await stub.CreateCaptureSession(
        CreateCaptureSessionRequest(run_id=run_id, capture_session=session, start=start)
    )


async def make_sensor(lab: Any, **fields: Any) -> Sensor:
    stub = lab.editor.stub(sensor_service_pb2_grpc.SensorServiceStub)
    sensor = Sensor(**{"project_ids": [lab.project_id], "name": "imu", **fields})
    return await stub.CreateSensor(CreateSensorRequest(sensor=sensor))


async def make_profile(lab: Any, sensor_id: str, *, publish: bool = True, **scales: float) -> ConversionProfile:
    """A version that multiplies each signal by its scale."""
    stub = lab.editor.stub(conversion_profile_service_pb2_grpc.ConversionProfileServiceStub)
    conversions = [{"signal": signal, "linear": {"scale": scale}} for signal, scale in (scales or {"x": 2.0}).items()]
    profile = await stub.CreateConversionProfile(
        CreateConversionProfileRequest(
            sensor_id=sensor_id, conversion_profile=ConversionProfile(conversions=conversions)
        )
    )
    if publish:
        profile = await stub.PublishConversionProfile(
            PublishConversionProfileRequest(sensor_id=sensor_id, conversion_profile_id=profile.conversion_profile_id)
        )
    return profile


async def make_project(rig: Any, **roles: str) -> str:
    """A second project; `roles` are by user id."""
    project_id = str(uuid7())
    await rows(rig, "INSERT INTO projects (project_id, name) VALUES (%s, 'second')", project_id)
    for user_id, role in roles.items():
        await rows(
            rig,
            "INSERT INTO project_members (project_id, user_id, role) VALUES (%s, %s, %s)",
            project_id,
            user_id,
            role,
        )
    return project_id


async def rows(rig: Any, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """What a query answers, past all code of ours."""
    async with await psycopg.AsyncConnection.connect(rig.database_url, row_factory=dict_row) as db:
        cursor = await db.execute(query, parameters)
        return await cursor.fetchall() if cursor.description else []


async def events_of(rig: Any, resource_id: str) -> list[dict[str, Any]]:
    """The events of a resource, oldest first."""
    return await rows(rig, "SELECT * FROM events WHERE resource_id = %s ORDER BY event_id", resource_id)
