"""SQL of experiments."""

from google.protobuf.json_format import MessageToDict
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from uuid_utils import uuid7

from rigmesh.v1.experiment_pb2 import Experiment
from rigmesh.v1.experiment_service_pb2 import ListExperimentsRequest
from services.db.page import Page
from services.db.pool import Connection
from services.errors import not_found

COLUMNS = "experiment_id, project_id, name, description, status, tags, metadata, created_at, updated_at"


async def insert_experiment(db: Connection, experiment: Experiment) -> Experiment:
    """A new DRAFT."""
    async with db.cursor(row_factory=class_row(Experiment)) as cursor:
        await cursor.execute(
            f"""INSERT INTO experiments (experiment_id, project_id, name, description, tags, metadata)
            VALUES (%s, %s, %s, %s, %s, %s) RETURNING {COLUMNS}""",
            (
                str(uuid7()),
                experiment.project_id,
                experiment.name,
                experiment.description,
                list(experiment.tags),
                Jsonb(MessageToDict(experiment.metadata)),
            ),
        )
        return await anext(cursor)


async def select_experiment(db: Connection, experiment_id: str) -> Experiment:
    """One experiment. Raises NotFound."""
    async with db.cursor(row_factory=class_row(Experiment)) as cursor:
        await cursor.execute(f"SELECT {COLUMNS} FROM experiments WHERE experiment_id = %s", (experiment_id,))
        experiment = await cursor.fetchone()
    if experiment is None:
        raise not_found("experiment", experiment_id)
    return experiment


async def select_experiments(
    db: Connection, user_id: str, request: ListExperimentsRequest, page: Page
) -> list[Experiment]:
    """Those that the user may see, newest first."""
    async with db.cursor(row_factory=class_row(Experiment)) as cursor:
        await cursor.execute(
            f"""SELECT {COLUMNS} FROM experiments
            WHERE project_id IN (SELECT project_id FROM project_members WHERE user_id = %(user_id)s)
              AND (%(project_id)s::uuid IS NULL OR project_id = %(project_id)s)
              AND (%(status)s::text[] = '{{}}' OR status = ANY(%(status)s))
              AND tags @> %(tags)s::text[]
              AND (%(after)s::uuid IS NULL OR experiment_id < %(after)s)
            ORDER BY experiment_id DESC LIMIT %(limit)s""",
            {
                "user_id": user_id,
                "project_id": request.project_id or None,
                "status": [Experiment.Status.Name(status) for status in request.status],
                "tags": list(request.tags),
                "after": page.after,
                "limit": page.limit,
            },
        )
        return await cursor.fetchall()
