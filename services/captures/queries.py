"""SQL of capture sessions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg.rows import class_row
from uuid_utils import uuid7

from rigmesh.v1.capture_service_pb2 import ListCaptureSessionsRequest
from rigmesh.v1.capture_session_pb2 import CaptureSession
from services.captures.rules import Profile
from services.db.page import Page
from services.db.pool import Connection
from services.errors import not_found
from services.state_machine import Transition

COLUMNS = """capture_session_id, run_id, project_id, ordinal_number, name, notes, status,
    ARRAY(SELECT conversion_profile_id FROM session_profiles p
        WHERE p.capture_session_id = capture_sessions.capture_session_id ORDER BY 1) AS pinned_profile_ids,
    data_revision, started_at, ended_at, created_at, updated_at"""
LOCK = "FOR NO KEY UPDATE"


@dataclass(frozen=True)
class LockedRun:
    """What a session must know of its run."""

    run_id: str
    project_id: str
    status: str


async def lock_run(db: Connection, run_id: str) -> LockedRun:
    """The run, which nobody else ends or adds a session to until the transaction ends. Raises NotFound."""
    async with db.cursor(row_factory=class_row(LockedRun)) as cursor:
        await cursor.execute(f"SELECT run_id, project_id, status FROM runs WHERE run_id = %s {LOCK}", (run_id,))
        run = await cursor.fetchone()
    if run is None:
        raise not_found("run", run_id)
    return run


async def select_profiles(db: Connection, project_id: str, conversion_profile_ids: Sequence[str]) -> dict[str, Profile]:
    """Those of the profile versions whose sensor is in the project, by id."""
    async with db.cursor(row_factory=class_row(Profile)) as cursor:
        await cursor.execute(
            """SELECT conversion_profile_id, sensor_id, status
            FROM conversion_profiles JOIN sensor_projects USING (sensor_id)
            WHERE project_id = %s AND conversion_profile_id = ANY(%s::uuid[])""",
            (project_id, list(conversion_profile_ids)),
        )
        return {profile.conversion_profile_id: profile async for profile in cursor}


async def insert_session(db: Connection, run: LockedRun, session: CaptureSession, *, start: bool) -> CaptureSession:
    """The next session of a locked run, without its pins. The lock keeps the ordinal numbers without gaps."""
    async with db.cursor(row_factory=class_row(CaptureSession)) as cursor:
        await cursor.execute(
            f"""INSERT INTO capture_sessions
                (capture_session_id, run_id, project_id, name, notes, status, ordinal_number, started_at)
            SELECT %(id)s, %(run_id)s, %(project_id)s, %(name)s, %(notes)s, %(status)s,
                (SELECT coalesce(max(ordinal_number), 0) + 1 FROM capture_sessions WHERE run_id = %(run_id)s),
                CASE WHEN %(start)s THEN statement_timestamp() END
            RETURNING {COLUMNS}""",
            {
                "id": str(uuid7()),
                "run_id": run.run_id,
                "project_id": run.project_id,
                "name": session.name,
                "notes": session.notes,
                "status": "RUNNING" if start else "DRAFT",
                "start": start,
            },
        )
        return await anext(cursor)


async def insert_pins(db: Connection, session: CaptureSession, profiles: Iterable[Profile]) -> None:
    """Pins profile versions to a new session, in the row and in the message."""
    pinned = sorted(profiles, key=lambda profile: profile.conversion_profile_id)
    session.pinned_profile_ids.extend(profile.conversion_profile_id for profile in pinned)
    async with db.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO session_profiles (capture_session_id, sensor_id, conversion_profile_id) VALUES (%s, %s, %s)",
            [(session.capture_session_id, profile.sensor_id, profile.conversion_profile_id) for profile in pinned],
        )


async def select_session(db: Connection, run_id: str, capture_session_id: str, *, lock: bool = False) -> CaptureSession:
    """A session of the run; locked: unchanged by others until the transaction ends. Raises NotFound."""
    async with db.cursor(row_factory=class_row(CaptureSession)) as cursor:
        await cursor.execute(
            f"""SELECT {COLUMNS} FROM capture_sessions WHERE run_id = %s AND capture_session_id = %s
            {LOCK if lock else ""}""",
            (run_id, capture_session_id),
        )
        session = await cursor.fetchone()
    if session is None:
        raise not_found("capture_session", capture_session_id)
    return session


async def select_sessions(db: Connection, request: ListCaptureSessionsRequest, page: Page) -> list[CaptureSession]:
    """Those of a run, by ordinal number."""
    async with db.cursor(row_factory=class_row(CaptureSession)) as cursor:
        await cursor.execute(
            f"""SELECT {COLUMNS} FROM capture_sessions
            WHERE run_id = %(run_id)s AND (%(status)s::text[] = '{{}}' OR status = ANY(%(status)s))
              AND ordinal_number > %(after)s
            ORDER BY ordinal_number LIMIT %(limit)s""",
            {
                "run_id": request.run_id,
                "status": [CaptureSession.Status.Name(status) for status in request.status],
                "after": page.after or 0,
                "limit": page.limit,
            },
        )
        return await cursor.fetchall()


async def update_status(db: Connection, capture_session_id: str, transition: Transition) -> CaptureSession | None:
    """Moves a session along a transition; None when its state does not allow it."""
    # Not now(): the transaction may have begun before another one that held the lock made the change before.
    async with db.cursor(row_factory=class_row(CaptureSession)) as cursor:
        await cursor.execute(
            f"""UPDATE capture_sessions SET status = %(target)s, updated_at = statement_timestamp(),
                started_at = CASE WHEN %(sets)s = 'started_at' THEN statement_timestamp() ELSE started_at END,
                ended_at = CASE WHEN %(sets)s = 'ended_at' THEN statement_timestamp() ELSE ended_at END
            WHERE capture_session_id = %(capture_session_id)s AND status = ANY(%(sources)s) RETURNING {COLUMNS}""",
            {
                "capture_session_id": capture_session_id,
                "target": transition.target,
                "sets": transition.sets,
                "sources": list(transition.sources),
            },
        )
        return await cursor.fetchone()
