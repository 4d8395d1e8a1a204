"""May this principal call this RPC on what the decoded request addresses?

The request decides, never the URL: through the transcoder a query parameter overrides a path parameter.
"""

from collections.abc import Iterable

from google.protobuf.message import Message

from rigmesh.v1.error_reason_pb2 import ROLE_TOO_LOW, SCOPE_MISSING
from rigmesh.v1.options_pb2 import Access
from services.db.pool import Connection
from services.errors import PermissionDenied, RigmeshError, not_found
from services.rpc.call import Kind, Principal
from services.rpc.contract import Rpc

RANK = {"VIEWER": 1, "EDITOR": 2, "OWNER": 3}

# The caller's role on a resource, by the request field that names it; no row = not the caller's to see.
_MEMBER = "JOIN project_members m ON m.user_id = %(user)s AND m.project_id"
ROLE_ON = {
    "project_id": "SELECT role FROM project_members m WHERE m.project_id = %(id)s AND m.user_id = %(user)s",
    "experiment_id": f"SELECT m.role FROM experiments r {_MEMBER} = r.project_id WHERE r.experiment_id = %(id)s",
    "run_id": f"SELECT m.role FROM runs r {_MEMBER} = r.project_id WHERE r.run_id = %(id)s",
    "capture_session_id": (
        f"SELECT m.role FROM capture_sessions r {_MEMBER} = r.project_id WHERE r.capture_session_id = %(id)s"
    ),
    # Members of any of its projects see a sensor; only the primary project's manage it.
    "sensor_id": f"""SELECT CASE WHEN m.project_id = s.primary_project_id THEN m.role ELSE 'VIEWER' END
        FROM sensors s JOIN sensor_projects p USING (sensor_id) {_MEMBER} = p.project_id WHERE s.sensor_id = %(id)s
        ORDER BY m.project_id = s.primary_project_id DESC LIMIT 1""",
}


async def authorise(db: Connection, rpc: Rpc, principal: Principal, request: Message | None) -> None:
    """Raises PermissionDenied or NotFound; how the attempt is recorded is the pipeline's business."""
    _check_scope(rpc, principal)
    if rpc.access.role == Access.ADMIN and not principal.is_admin:
        raise _role_too_low("ADMIN")
    if rpc.access.role == Access.SENSOR and principal.project_id:
        await _check_role(db, "EDITOR", principal, "project_id", principal.project_id)
    if request is not None and rpc.access.role in (Access.VIEWER, Access.EDITOR, Access.OWNER):
        for path in rpc.access.resource:
            for resource_id in addressed(request, path):
                needed = Access.Role.Name(rpc.access.role)
                await _check_role(db, needed, principal, path.rpartition(".")[2], resource_id)


def addressed(request: Message, path: str) -> list[str]:
    """The ids that a request names at a field path; none where it is not set."""
    value: object = request
    for name in path.split("."):
        value = getattr(value, name)
    values: Iterable[str] = (value,) if isinstance(value, str) else value  # type: ignore[assignment]
    return [text for text in values if text]


def resource_ids(rpc: Rpc, request: Message) -> str:
    """All ids that the request addresses, for the record of a denied attempt."""
    return ",".join(text for path in rpc.access.resource for text in addressed(request, path))


def _check_scope(rpc: Rpc, principal: Principal) -> None:
    if principal.kind is Kind.SENSOR or rpc.access.role == Access.PUBLIC:
        return
    needed = _needed_scope(rpc)
    if principal.kind is Kind.SESSION and needed != "INGEST":
        return
    if needed not in principal.scopes:
        raise PermissionDenied(
            SCOPE_MISSING, f"needs a token with the {needed} scope", metadata={"required_scope": needed}
        )


def _needed_scope(rpc: Rpc) -> str:
    special = {Access.SENSOR: "INGEST", Access.ADMIN: "ADMIN"}.get(rpc.access.role)
    return special or ("READ" if rpc.read_only else "WRITE")


async def _check_role(db: Connection, needed: str, principal: Principal, field: str, resource_id: str) -> None:
    # ROLE_ON is keyed by singular names: "project_ids" names several projects.
    key = field.removesuffix("s")
    cursor = await db.execute(ROLE_ON[key], {"id": resource_id, "user": principal.user_id})
    row = await cursor.fetchone()
    if row is None:
        raise not_found(key.removesuffix("_id"), resource_id)
    if RANK[row[0]] < RANK[needed]:
        raise _role_too_low(needed)


def _role_too_low(needed: str) -> RigmeshError:
    return PermissionDenied(ROLE_TOO_LOW, f"needs the {needed} role", metadata={"required_role": needed})
