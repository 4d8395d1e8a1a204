"""What a lab sets up once: a project, an experiment, runs, capture sessions, and a sensor with its calibration."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1.auth_pb2 import ApiToken
from rigmesh.v1.auth_service_pb2 import CreateApiTokenRequest, LoginRequest, LogoutRequest
from rigmesh.v1.capture_service_pb2 import CreateCaptureSessionRequest, StopCaptureSessionRequest
from rigmesh.v1.capture_session_pb2 import CaptureSession
from rigmesh.v1.conversion_profile_pb2 import Conversion, ConversionProfile, Linear
from rigmesh.v1.conversion_profile_service_pb2 import (
    CreateConversionProfileRequest,
    PublishConversionProfileRequest,
)
from rigmesh.v1.experiment_pb2 import Experiment
from rigmesh.v1.experiment_service_pb2 import CreateExperimentRequest
from rigmesh.v1.project_pb2 import Project
from rigmesh.v1.project_service_pb2 import CreateProjectRequest
from rigmesh.v1.run_pb2 import Run
from rigmesh.v1.run_service_pb2 import AttachSensorRequest, CreateRunRequest, UpdateRunRequest
from rigmesh.v1.sensor_pb2 import Sensor
from rigmesh.v1.sensor_service_pb2 import CreateSensorRequest
from rigmesh_client import Connection, connect
from samples.demo.recordings import SIGNALS, Recording

G_IN_M_S2 = 9.80665
RAD_IN_DEG = 57.29577951308232
TOKEN_LIFE = timedelta(days=1)


@dataclass(frozen=True)
class Tokens:
    """Of the user: one that may change things, one that may only read."""

    write: str
    read: str


@dataclass(frozen=True)
class Study:
    """What was made: run and session ids are by recording name."""

    project_id: str
    sensor: Sensor
    run_ids: dict[str, str]
    session_ids: dict[str, str]


def scale(signal: str) -> float:
    """physical = scale · raw."""
    return G_IN_M_S2 if signal.startswith("a") else RAD_IN_DEG


async def create_tokens(endpoint: str, login: LoginRequest) -> Tokens:
    """Signs in as a browser would, creates two API tokens that live for a day, and signs out."""
    async with connect(endpoint, token="") as connection:
        call = connection.auth.Login(login)
        me = await call
        cookies = [str(value) for key, value in await call.initial_metadata() if key == "set-cookie"]
        session = (("cookie", cookies[0].split(";")[0]), ("x-csrf-token", me.csrf_token))
        expires_at = Timestamp()
        expires_at.FromDatetime(datetime.now(UTC) + TOKEN_LIFE)
        secrets = []
        for name, scopes in (("demo", [ApiToken.READ, ApiToken.WRITE]), ("demo, to try", [ApiToken.READ])):
            wanted = ApiToken(name=name, scopes=scopes, expires_at=expires_at)
            created = await connection.auth.CreateApiToken(CreateApiTokenRequest(api_token=wanted), metadata=session)
            secrets.append(created.token)
        await connection.auth.Logout(LogoutRequest(), metadata=session)
    return Tokens(*secrets)


async def create_study(connection: Connection, recordings: list[Recording]) -> Study:
    """One run a subject, one running capture session a recording, one sensor attached to all runs."""
    project = await connection.projects.CreateProject(CreateProjectRequest(project=Project(name="Shoulder demo")))
    experiment = await connection.experiments.CreateExperiment(
        CreateExperimentRequest(experiment=Experiment(project_id=project.project_id, name="Shoulder exercises"))
    )
    sensor = await _create_sensor(connection, project.project_id)
    subjects = sorted({recording.subject for recording in recordings})
    runs = {subject: await _start_run(connection, experiment.experiment_id, subject, sensor) for subject in subjects}
    sessions = {}
    for recording in recordings:
        request = CreateCaptureSessionRequest(
            run_id=runs[recording.subject], capture_session=CaptureSession(name=recording.name)
        )
        session = await connection.captures.CreateCaptureSession(request)
        sessions[recording.name] = session.capture_session_id
    return Study(project.project_id, sensor, {one.name: runs[one.subject] for one in recordings}, sessions)


async def finish_study(connection: Connection, study: Study) -> None:
    """Stops the sessions, then ends the runs."""
    for name, session_id in study.session_ids.items():
        await connection.captures.StopCaptureSession(
            StopCaptureSessionRequest(
                run_id=study.run_ids[name], capture_session_id=session_id, outcome=CaptureSession.SUCCEEDED
            )
        )
    for run_id in sorted(set(study.run_ids.values())):
        await connection.runs.UpdateRun(UpdateRunRequest(run_id=run_id, run=Run(status=Run.SUCCEEDED)))


async def _create_sensor(connection: Connection, project_id: str) -> Sensor:
    sensor = await connection.sensors.CreateSensor(
        CreateSensorRequest(sensor=Sensor(name="Watch", project_ids=[project_id]))
    )
    units = {signal: "m/s2" if signal.startswith("a") else "deg/s" for signal in SIGNALS}
    conversions = [
        Conversion(signal=signal, unit=units[signal], linear=Linear(scale=scale(signal))) for signal in SIGNALS
    ]
    profile = await connection.conversion_profiles.CreateConversionProfile(
        CreateConversionProfileRequest(
            sensor_id=sensor.sensor_id,
            conversion_profile=ConversionProfile(name="Factory", conversions=conversions),
        )
    )
    await connection.conversion_profiles.PublishConversionProfile(
        PublishConversionProfileRequest(sensor_id=sensor.sensor_id, conversion_profile_id=profile.conversion_profile_id)
    )
    return sensor


async def _start_run(connection: Connection, experiment_id: str, subject: int, sensor: Sensor) -> str:
    params = Struct()
    params.update({"subject": subject})
    run = await connection.runs.CreateRun(
        CreateRunRequest(experiment_id=experiment_id, run=Run(name=f"Subject {subject}", params=params))
    )
    await connection.runs.UpdateRun(UpdateRunRequest(run_id=run.run_id, run=Run(status=Run.RUNNING)))
    await connection.runs.AttachSensor(AttachSensorRequest(run_id=run.run_id, sensor_id=sensor.sensor_id))
    return run.run_id
