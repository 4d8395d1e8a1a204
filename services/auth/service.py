"""AuthService: sessions of people, API tokens of programs."""

import asyncio
import time
from datetime import UTC, datetime
from email.utils import format_datetime

from google.protobuf.empty_pb2 import Empty

from rigmesh.v1.auth_pb2 import ApiToken, Me
from rigmesh.v1.auth_service_pb2 import (
    CreateApiTokenRequest,
    GetMeRequest,
    ListApiTokensRequest,
    ListApiTokensResponse,
    LoginRequest,
    LogoutRequest,
    RevokeApiTokenRequest,
)
from rigmesh.v1.error_reason_pb2 import LIMIT_EXCEEDED, NO_SESSION, TOO_MANY_LOGINS, WRONG_PASSWORD
from services import passwords
from services.auth import queries, rules
from services.auth.throttle import Throttle
from services.db.page import open_page
from services.errors import FailedPrecondition, ResourceExhausted, Unauthenticated, not_found
from services.rpc import tokens
from services.rpc.auth import SESSION_COOKIE, csrf_token
from services.rpc.call import Call, Kind, Principal

# Each takes 64 MiB, a thread and a second connection. Refused at once rather than queued: a login that waits would hold
# the connection that the one before it needs.
MAX_LOGINS = 4
_logins = asyncio.Semaphore(MAX_LOGINS)
_throttle = Throttle()


async def Login(request: LoginRequest, call: Call) -> Me:
    if retry_after_s := _throttle.take(call.address, time.monotonic()):
        raise ResourceExhausted(
            TOO_MANY_LOGINS, "too many logins from this address; try again later", retry_after_s=retry_after_s
        )
    if _logins.locked():
        raise ResourceExhausted(
            LIMIT_EXCEEDED,
            "too many people are logging in at this moment",
            metadata={"limit": "logins", "max": str(MAX_LOGINS)},
            retry_after_s=1.0,
        )
    async with _logins:
        account = await _authenticated(request, call)
    await queries.clear_attempts(call.db, request.username)
    secret = tokens.random_text(43)
    session_id, expires_at = await queries.create_session(call.db, account.user_id, secret)
    call.principal = Principal(
        Kind.SESSION, credential_id=session_id, user_id=account.user_id, is_admin=account.is_admin
    )
    _set_cookie(call, secret, expires_at)
    call.emit("session", session_id)
    return await _me(call)


async def Logout(request: LogoutRequest, call: Call) -> Empty:
    if call.principal.kind is not Kind.SESSION:
        raise FailedPrecondition(NO_SESSION, "only a session can be ended; API tokens are revoked")
    await queries.end_session(call.db, call.principal.credential_id)
    _set_cookie(call, "", datetime.fromtimestamp(0, UTC))
    call.emit("session", call.principal.credential_id)
    return Empty()


async def GetMe(request: GetMeRequest, call: Call) -> Me:
    return await _me(call)


async def CreateApiToken(request: CreateApiTokenRequest, call: Call) -> ApiToken:
    wanted, user_id = request.api_token, call.principal.user_id
    rules.check_token(wanted, call.principal, datetime.now(UTC))
    if wanted.project_id:
        rules.check_ingest_role(wanted.project_id, await queries.role_in(call.db, wanted.project_id, user_id))
    token = tokens.new_token(tokens.API)
    created = await queries.create_api_token(call.db, user_id, wanted, token)
    created.token = str(token)
    call.emit("api_token", created.api_token_id, project_id=created.project_id or None, after=created)
    return created


async def ListApiTokens(request: ListApiTokensRequest, call: Call) -> ListApiTokensResponse:
    page = open_page(request, call.key("page"))
    rows = await queries.list_api_tokens(call.db, call.principal.user_id, page)
    api_tokens, next_page_token = page.cut(rows, lambda row: row.api_token_id)
    return ListApiTokensResponse(api_tokens=api_tokens, next_page_token=next_page_token)


async def RevokeApiToken(request: RevokeApiTokenRequest, call: Call) -> ApiToken:
    before = await queries.lock_api_token(call.db, call.principal.user_id, request.api_token_id)
    if before is None:
        raise not_found("api_token", request.api_token_id)
    after = await queries.revoke_api_token(call.db, before.api_token_id)
    call.emit("api_token", after.api_token_id, project_id=after.project_id or None, before=before, after=after)
    return after


async def _authenticated(request: LoginRequest, call: Call) -> queries.Account:
    """The account that name and password open. Absent names take as long as wrong passwords."""
    retry_after_s = await queries.open_attempt(call.pools.write, request.username)
    if retry_after_s is not None:
        raise ResourceExhausted(
            TOO_MANY_LOGINS, "too many failed logins with this name; try again later", retry_after_s=retry_after_s
        )
    account = await queries.find_account(call.db, request.username)
    stored = account.password_hash if account else None
    right = await asyncio.to_thread(passwords.verify_password, stored, request.password)
    if account is None or not right:
        raise Unauthenticated(WRONG_PASSWORD, "wrong user name or password")
    if passwords.is_outdated(account.password_hash):
        fresh = await asyncio.to_thread(passwords.hash_password, request.password)
        await queries.replace_hash(call.db, account, fresh)
    return account


async def _me(call: Call) -> Me:
    user_id, session_id = call.principal.user_id, call.principal.credential_id
    me = Me(user=await queries.get_user(call.db, user_id), projects=await queries.list_projects(call.db, user_id))
    if call.principal.kind is Kind.SESSION:
        me.csrf_token = csrf_token(session_id, call.key("csrf"))
        me.session_expires_at.FromDatetime(await queries.session_end(call.db, session_id))
    return me


def _set_cookie(call: Call, secret: str, expires_at: datetime) -> None:
    expires = format_datetime(expires_at.astimezone(UTC), usegmt=True)
    cookie = f"{SESSION_COOKIE}={secret}; Path=/; Expires={expires}; Secure; HttpOnly; SameSite=Lax"
    call.response_headers.append(("set-cookie", cookie))
