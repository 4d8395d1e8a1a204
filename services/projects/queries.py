"""SQL of projects and their members."""

from collections.abc import Sequence

from psycopg.rows import class_row
from uuid_utils import uuid7

from rigmesh.v1.project_pb2 import Member, Project
from rigmesh.v1.project_service_pb2 import AddMemberRequest
from services.db.page import Page
from services.db.pool import Connection

# With the caller's own role; the tables are p and m.
PROJECT = "p.project_id, p.name, p.description, m.role, p.created_at"
MEMBER = "m.project_id, m.user_id, u.username, m.role, m.created_at"


async def create_project(db: Connection, owner_id: str, name: str, description: str) -> Project:
    """The new project with its first member."""
    async with db.cursor(row_factory=class_row(Project)) as cursor:
        await cursor.execute(
            f"""WITH p AS (
                INSERT INTO projects (project_id, name, description) VALUES (%s, %s, %s) RETURNING *
            ), m AS (
                INSERT INTO project_members (project_id, user_id, role)
                SELECT project_id, %s, 'OWNER' FROM p RETURNING *
            ) SELECT {PROJECT} FROM p, m""",
            (str(uuid7()), name, description, owner_id),
        )
        return await anext(cursor)


async def get_project(db: Connection, project_id: str, user_id: str) -> Project | None:
    """A project with the user's role in it; None for an outsider."""
    async with db.cursor(row_factory=class_row(Project)) as cursor:
        await cursor.execute(
            f"""SELECT {PROJECT} FROM projects p JOIN project_members m USING (project_id)
            WHERE p.project_id = %s AND m.user_id = %s""",
            (project_id, user_id),
        )
        return await cursor.fetchone()


async def list_projects(db: Connection, user_id: str, page: Page) -> Sequence[Project]:
    """The user's projects, newest first."""
    async with db.cursor(row_factory=class_row(Project)) as cursor:
        await cursor.execute(
            f"""SELECT {PROJECT} FROM projects p JOIN project_members m USING (project_id)
            WHERE m.user_id = %(user_id)s AND (%(after)s::uuid IS NULL OR p.project_id < %(after)s::uuid)
            ORDER BY p.project_id DESC LIMIT %(limit)s""",
            {"user_id": user_id, "after": page.after, "limit": page.limit},
        )
        return await cursor.fetchall()


async def list_members(db: Connection, project_id: str, page: Page) -> Sequence[Member]:
    """Members in the order in which they joined. `page.after` is [created_at, user_id] of the last one before."""
    joined_at, user_id = page.after or (None, None)
    async with db.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            f"""SELECT {MEMBER} FROM project_members m JOIN users u USING (user_id)
            WHERE m.project_id = %(project_id)s AND (
                %(joined_at)s::timestamptz IS NULL
                OR (m.created_at, m.user_id) > (%(joined_at)s::timestamptz, %(user_id)s::uuid)
            ) ORDER BY m.created_at, m.user_id LIMIT %(limit)s""",
            {"project_id": project_id, "joined_at": joined_at, "user_id": user_id, "limit": page.limit},
        )
        return await cursor.fetchall()


async def find_user(db: Connection, request: AddMemberRequest) -> str | None:
    """Id of the user that an AddMember names by id, username or e-mail address."""
    cursor = await db.execute(
        """SELECT user_id FROM users WHERE disabled_at IS NULL AND (
            user_id = %s::uuid OR lower(username) = lower(%s) OR lower(email) = lower(%s)
        )""",
        (request.user_id or None, request.username or None, request.email or None),
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def add_member(db: Connection, project_id: str, user_id: str, role: str) -> Member:
    """The new member."""
    async with db.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            f"""WITH m AS (
                INSERT INTO project_members (project_id, user_id, role) VALUES (%s, %s, %s) RETURNING *
            ) SELECT {MEMBER} FROM m JOIN users u USING (user_id)""",
            (project_id, user_id, role),
        )
        return await anext(cursor)


async def lock_member(db: Connection, project_id: str, user_id: str) -> Member | None:
    """A member, once no other call can change the project's members until this transaction ends.

    The project's row is what they queue at. NO KEY: whoever adds something to the project need not wait.
    """
    await db.execute("SELECT FROM projects WHERE project_id = %s FOR NO KEY UPDATE", (project_id,))
    async with db.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            f"""SELECT {MEMBER} FROM project_members m JOIN users u USING (user_id)
            WHERE m.project_id = %s AND m.user_id = %s""",
            (project_id, user_id),
        )
        return await cursor.fetchone()


async def has_other_owner(db: Connection, member: Member) -> bool:
    """Whether the project keeps an owner without this member. Call it with the members locked."""
    cursor = await db.execute(
        """SELECT EXISTS (SELECT FROM project_members WHERE project_id = %s AND user_id <> %s AND role = 'OWNER')""",
        (member.project_id, member.user_id),
    )
    return await anext(cursor) == (True,)


async def set_role(db: Connection, member: Member, role: str) -> Member:
    """The member with another role."""
    async with db.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            f"""UPDATE project_members m SET role = %s FROM users u
            WHERE m.project_id = %s AND m.user_id = %s AND u.user_id = m.user_id RETURNING {MEMBER}""",
            (role, member.project_id, member.user_id),
        )
        return await anext(cursor)


async def remove_member(db: Connection, member: Member) -> None:
    """The user keeps nothing in the project."""
    await db.execute(
        "DELETE FROM project_members WHERE project_id = %s AND user_id = %s", (member.project_id, member.user_id)
    )
