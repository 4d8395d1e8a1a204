"""Who may give which scopes to an API token."""

from datetime import UTC, datetime

from rigmesh.v1.auth_pb2 import ApiToken
from rigmesh.v1.error_reason_pb2 import ROLE_TOO_LOW, SCOPE_MISSING
from services.errors import PermissionDenied, invalid_field, not_found
from services.rpc.call import Kind, Principal


def check_token(wanted: ApiToken, principal: Principal, now: datetime) -> None:
    """InvalidArgument for a token that makes no sense, or would outlive the one that makes it; PermissionDenied for one
    with more rights than its maker.

    ADMIN is for administrators only: in another's hands it would wait for the day of a promotion.
    """
    if (ApiToken.INGEST in wanted.scopes) != bool(wanted.project_id):
        raise invalid_field("api_token.project_id", "belongs to the INGEST scope: both or neither must be given")
    expires_at = wanted.expires_at.ToDatetime(tzinfo=UTC) if wanted.HasField("expires_at") else None
    if expires_at is not None and expires_at <= now:
        raise invalid_field("api_token.expires_at", "must lie in the future")
    if principal.expires_at is not None and (expires_at is None or expires_at > principal.expires_at):
        raise invalid_field("api_token.expires_at", "must not be later than that of the token which makes this one")
    if ApiToken.ADMIN in wanted.scopes and not principal.is_admin:
        raise PermissionDenied(ROLE_TOO_LOW, "needs the ADMIN role", metadata={"required_role": "ADMIN"})
    if principal.kind is Kind.API_TOKEN:
        _check_own_scopes(wanted, principal)


def check_ingest_role(project_id: str, role: str | None) -> None:
    """`role` is the caller's in an INGEST token's project. NotFound for an outsider, PermissionDenied for a viewer."""
    if role is None:
        raise not_found("project", project_id)
    if role == "VIEWER":
        raise PermissionDenied(ROLE_TOO_LOW, "needs the EDITOR role", metadata={"required_role": "EDITOR"})


def _check_own_scopes(wanted: ApiToken, principal: Principal) -> None:
    for name in map(ApiToken.Scope.Name, wanted.scopes):
        # The INGEST scope holds for one project.
        elsewhere = name == "INGEST" and wanted.project_id.lower() != principal.project_id
        if name not in principal.scopes or elsewhere:
            raise PermissionDenied(
                SCOPE_MISSING, f"needs a token with the {name} scope", metadata={"required_scope": name}
            )
