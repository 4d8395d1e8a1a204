"""Who calls: the form of the credential from metadata, then the row behind it."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row
from starlette.requests import cookie_parser

from rigmesh.v1.error_reason_pb2 import CSRF_TOKEN_INVALID, UNAUTHENTICATED
from rigmesh.v1.options_pb2 import Access
from services.db.pool import Connection
from services.errors import PermissionDenied, Unauthenticated
from services.rpc import tokens
from services.rpc.call import Kind, Principal
from services.rpc.contract import Rpc

SESSION_COOKIE = "__Host-sid"
SESSION_IDLE, SESSION_MAX = "30 minutes", "12 hours"
ANONYMOUS = Principal(Kind.ANONYMOUS)


@dataclass(frozen=True)
class Credential:
    """What the caller presents: a token, a session's secret, or nothing."""

    token: tokens.Token | None = None
    session_secret: str = ""

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(f"{self.token or ''}|{self.session_secret}".encode()).digest()


NO_CREDENTIAL = Credential()


@dataclass(frozen=True)
class _TokenRow:
    credential_id: str
    owner_id: str
    secret_hash: bytes
    is_admin: bool = False
    scopes: tuple[str, ...] = ()
    project_id: str | None = None
    expires_at: datetime | None = None


def read_credential(rpc: Rpc, metadata: Mapping[str, str]) -> Credential:
    """The credential by its form alone, before anything else is looked at. Unauthenticated when absent or malformed."""
    authorization = metadata.get("authorization")
    if authorization is not None:
        scheme, _, text = authorization.partition(" ")
        token = tokens.parse_token(text.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise _unauthenticated()
        return Credential(token=token)
    secret = _session_cookie(metadata.get("cookie", ""))
    if not secret and rpc.access.role != Access.PUBLIC:
        raise _unauthenticated()
    return Credential(session_secret=secret)


async def authenticate(db: Connection, rpc: Rpc, credential: Credential) -> Principal:
    """The principal behind a credential that is in force and of a kind that the RPC takes, else Unauthenticated."""
    if rpc.access.role == Access.PUBLIC:
        return ANONYMOUS
    if credential.token is None:
        principal = await _session(db, credential.session_secret)
    elif credential.token.prefix == tokens.SENSOR:
        principal = await _sensor(db, credential.token)
    else:
        principal = await _api_token(db, credential.token)
    # A token of another kind gets the answer of a wrong one.
    if principal is None or (principal.kind is Kind.SENSOR and rpc.access.role != Access.SENSOR):
        raise _unauthenticated()
    return principal


def csrf_token(session_id: str, key: bytes) -> str:
    """HMAC-SHA256 of the session id: what a page must send beside the cookie."""
    return hmac.new(key, session_id.encode(), hashlib.sha256).hexdigest()


def check_csrf(principal: Principal, rpc: Rpc, metadata: Mapping[str, str], key: bytes) -> None:
    """Refuses a change that a foreign page made a browser send: cookies come by themselves, headers do not."""
    if principal.kind is not Kind.SESSION or rpc.read_only:
        return
    expected = csrf_token(principal.credential_id, key)
    foreign = metadata.get("sec-fetch-site", "none") not in ("same-origin", "none")
    if foreign or not hmac.compare_digest(expected.encode(), metadata.get("x-csrf-token", "").encode()):
        raise PermissionDenied(
            CSRF_TOKEN_INVALID, "a call that changes something needs the session's X-CSRF-Token and the same origin"
        )


async def _session(db: Connection, secret: str) -> Principal | None:
    cursor = await db.execute(
        f"""SELECT s.session_id, s.user_id, u.is_admin FROM sessions s JOIN users u USING (user_id)
        WHERE s.secret_hash = %s AND s.ended_at IS NULL AND s.expires_at > now()
          AND s.last_used_at > now() - interval '{SESSION_IDLE}' AND u.disabled_at IS NULL""",
        (tokens.hash_secret(secret),),
    )
    row = await cursor.fetchone()
    return Principal(Kind.SESSION, credential_id=row[0], user_id=row[1], is_admin=row[2]) if row else None


async def _api_token(db: Connection, token: tokens.Token) -> Principal | None:
    async with db.cursor(row_factory=class_row(_TokenRow)) as cursor:
        await cursor.execute(
            """SELECT api_token_id AS credential_id, user_id AS owner_id, secret_hash, is_admin, scopes, project_id,
                expires_at
            FROM api_tokens t JOIN users u USING (user_id)
            WHERE public_id = %s AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
                AND disabled_at IS NULL""",
            (token.public_id,),
        )
        row = _verified(await cursor.fetchone(), token)
    if row is None:
        return None
    return Principal(
        Kind.API_TOKEN,
        credential_id=row.credential_id,
        user_id=row.owner_id,
        is_admin=row.is_admin,
        scopes=frozenset(row.scopes),
        project_id=row.project_id or "",
        expires_at=row.expires_at,
    )


async def _sensor(db: Connection, token: tokens.Token) -> Principal | None:
    async with db.cursor(row_factory=class_row(_TokenRow)) as cursor:
        await cursor.execute(
            """SELECT sensor_token_id AS credential_id, sensor_id AS owner_id, secret_hash FROM sensor_tokens
            WHERE public_id = %s AND revoked_at IS NULL AND coalesce(expires_at > now(), true)""",
            (token.public_id,),
        )
        row = _verified(await cursor.fetchone(), token)
    return Principal(Kind.SENSOR, credential_id=row.credential_id, sensor_id=row.owner_id) if row else None


def _verified(row: _TokenRow | None, token: tokens.Token) -> _TokenRow | None:
    expected = row.secret_hash if row else tokens.NO_HASH
    return row if hmac.compare_digest(expected, token.secret_hash) else None


def _session_cookie(header: str) -> str:
    # Not SimpleCookie, which drops all cookies when another application's one is malformed.
    return cookie_parser(header).get(SESSION_COOKIE, "")


def _unauthenticated() -> Unauthenticated:
    return Unauthenticated(UNAUTHENTICATED, "a valid credential is needed")
