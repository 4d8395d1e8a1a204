"""SQL of runs."""

from google.protobuf.json_format import MessageToDict
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb
from uuid_utils import uuid7

from rigmesh.v1.run_pb2 import Run, RunSensor
from rigmesh.v1.run_service_pb2 import ListRunsRequest
from services.db.page import Page
from services.db.pool import Connection
from services.errors import not_found
from services.runs import rules
from services.state_machine import Transition

COLUMNS = """run_id, experiment_id, project_id, name, description, status, tags, params, metadata, git_sha, started_at,
    ended_at, created_at, updated_at"""
LOCK = "FOR NO KEY UPDATE"


async def insert_run(db: Connection, experiment_id: str, run: Run) -> Run | None:
    """A new DRAFT; None when the experiment is not open. Keeps the experiment from being archived meanwhile."""
    async with db.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(
            f"""INSERT INTO runs (run_id, experiment_id, project_id, name, description, tags, params, metadata, git_sha)
            SELECT %(run_id)s, experiment_id, project_id, %(name)s, %(description)s, %(tags)s, %(params)s, %(metadata)s,
                %(git_sha)s
            FROM experiments WHERE experiment_id = %(experiment_id)s AND status = ANY(%(open)s) FOR SHARE
            RETURNING {COLUMNS}""",
            {
                "experiment_id": experiment_id,
                "open": list(rules.OPEN_EXPERIMENT),
                "run_id": str(uuid7()),
                **_values(run),
            },
        )
        return await cursor.fetchone()


async def select_experiment_status(db: Connection, experiment_id: str) -> str:
    async with db.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT status FROM experiments WHERE experiment_id = %s", (experiment_id,))
        status: str | None = await cursor.fetchone()
    if status is None:
        raise not_found("experiment", experiment_id)
    return status


async def select_run(db: Connection, run_id: str, *, lock: bool = False) -> Run:
    """One run; locked: nobody else changes it or starts a session in it until the transaction ends. Raises NotFound."""
    async with db.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(f"SELECT {COLUMNS} FROM runs WHERE run_id = %s {LOCK if lock else ''}", (run_id,))
        run = await cursor.fetchone()
    if run is None:
        raise not_found("run", run_id)
    return run


async def select_runs(db: Connection, user_id: str, request: ListRunsRequest, page: Page) -> list[Run]:
    """Those that the user may see, newest first."""
    async with db.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(
            f"""SELECT {COLUMNS} FROM runs
            WHERE project_id IN (SELECT project_id FROM project_members WHERE user_id = %(user_id)s)
              AND (%(project_id)s::uuid IS NULL OR project_id = %(project_id)s)
              AND (%(experiment_id)s::uuid IS NULL OR experiment_id = %(experiment_id)s)
              AND (%(status)s::text[] = '{{}}' OR status = ANY(%(status)s))
              AND tags @> %(tags)s::text[]
              AND (%(after)s::uuid IS NULL OR run_id < %(after)s)
            ORDER BY run_id DESC LIMIT %(limit)s""",
            {
                "user_id": user_id,
                "project_id": request.project_id or None,
                "experiment_id": request.experiment_id or None,
                "status": [Run.Status.Name(status) for status in request.status],
                "tags": list(request.tags),
                "after": page.after,
                "limit": page.limit,
            },
        )
        return await cursor.fetchall()


async def update_run(db: Connection, run: Run, transition: Transition) -> Run | None:
    """Writes the changeable fields along a transition; None when the run's state does not allow it."""
    # Not now(): the transaction may have begun before another one that held the lock made the change before.
    async with db.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(
            f"""UPDATE runs SET name = %(name)s, description = %(description)s, tags = %(tags)s, params = %(params)s,
                metadata = %(metadata)s, git_sha = %(git_sha)s, status = %(target)s, updated_at = statement_timestamp(),
                started_at = CASE WHEN %(sets)s = 'started_at' THEN statement_timestamp() ELSE started_at END,
                ended_at = CASE WHEN %(sets)s = 'ended_at' THEN statement_timestamp() ELSE ended_at END
            WHERE run_id = %(run_id)s AND status = ANY(%(sources)s) RETURNING {COLUMNS}""",
            {
                "run_id": run.run_id,
                "target": transition.target,
                "sets": transition.sets,
                "sources": list(transition.sources),
                **_values(run),
            },
        )
        return await cursor.fetchone()


async def select_active_sessions(db: Connection, run_id: str) -> list[str]:
    """Ids of capture sessions that keep the run from ending, the first ones only: they go into an error's metadata."""
    async with db.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """SELECT capture_session_id FROM capture_sessions WHERE run_id = %s AND status = ANY(%s)
            ORDER BY ordinal_number LIMIT %s""",
            (run_id, list(rules.ACTIVE_SESSION), rules.NAMED_SESSIONS),
        )
        return await cursor.fetchall()


async def select_run_sensor(db: Connection, run_id: str, sensor_id: str) -> RunSensor | None:
    async with db.cursor(row_factory=class_row(RunSensor)) as cursor:
        await cursor.execute(
            "SELECT run_id, sensor_id, attached_at FROM run_sensors WHERE run_id = %s AND sensor_id = %s",
            (run_id, sensor_id),
        )
        return await cursor.fetchone()


async def insert_run_sensor(db: Connection, run: Run, sensor_id: str) -> RunSensor:
    """Attaches a sensor of the run's project. Raises NotFound when it is none."""
    async with db.cursor(row_factory=class_row(RunSensor)) as cursor:
        await cursor.execute(
            """INSERT INTO run_sensors (run_id, sensor_id)
            SELECT %s, sensor_id FROM sensor_projects WHERE sensor_id = %s AND project_id = %s FOR SHARE
            RETURNING run_id, sensor_id, attached_at""",
            (run.run_id, sensor_id, run.project_id),
        )
        attached = await cursor.fetchone()
    if attached is None:
        raise not_found("sensor", sensor_id)
    return attached


def _values(run: Run) -> dict[str, object]:
    return {
        "name": run.name,
        "description": run.description,
        "tags": list(run.tags),
        "params": Jsonb(MessageToDict(run.params)),
        "metadata": Jsonb(MessageToDict(run.metadata)),
        "git_sha": run.git_sha,
    }
