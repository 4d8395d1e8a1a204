import time
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rigmesh.v1.auth_pb2 import ApiToken
from rigmesh.v1.auth_service_pb2 import (
    CreateApiTokenRequest,
    GetMeRequest,
    ListApiTokensRequest,
    RevokeApiTokenRequest,
)
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub
from services.auth.rules import check_token
from services.errors import PermissionDenied
from services.rpc.call import Kind, Principal
from tests.factory import events_of, rows
from tests.refusals import refused

ABSENT = "01920000-0000-7000-8000-000000000000"


async def create(caller: Any, **fields: Any) -> ApiToken:
    wanted = ApiToken(**{"name": "test", "scopes": ["READ"]} | fields)
    token: ApiToken = await caller.stub(AuthServiceStub).CreateApiToken(CreateApiTokenRequest(api_token=wanted))
    return token


def bearer(token: ApiToken) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token.token}"),)


async def test_a_token_works_and_is_shown_once(lab: Any, auth: Any, rig: Any) -> None:
    token = await create(lab.owner, name="once")
    me = await auth.GetMe(GetMeRequest(), metadata=bearer(token))
    assert me.user.username
    listed = await lab.owner.stub(AuthServiceStub).ListApiTokens(ListApiTokensRequest())
    assert listed.api_tokens[0].name == "once"
    assert not any(item.token for item in listed.api_tokens)
    secret = token.token.split("_")[2]
    (event,) = await events_of(rig, token.api_token_id)
    (row,) = await rows(rig, "SELECT t::text FROM api_tokens t WHERE api_token_id = %s", token.api_token_id)
    assert secret not in str(event) + row["t"]


async def test_a_scope_that_is_missing_is_named(lab: Any, auth: Any) -> None:
    token = await create(lab.owner, scopes=["READ"])
    with refused("PERMISSION_DENIED", "SCOPE_MISSING") as refusal:
        await auth.CreateApiToken(
            CreateApiTokenRequest(api_token=ApiToken(name="more", scopes=["READ"])), metadata=bearer(token)
        )
    assert refusal.info.metadata == {"required_scope": "WRITE"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scopes": ["READ"], "project_id": ABSENT}, "api_token.project_id"),
        ({"scopes": ["INGEST"]}, "api_token.project_id"),
        ({"expires_at": Timestamp(seconds=1_600_000_000)}, "api_token.expires_at"),
        ({"expires_at": Timestamp(seconds=10**12)}, "api_token.expires_at"),
        ({"scopes": []}, "api_token.scopes"),
        ({"scopes": ["SCOPE_UNSPECIFIED"]}, "api_token.scopes[0]"),
        ({"scopes": ["READ", "READ"]}, "api_token.scopes"),
        ({"name": ""}, "api_token.name"),
        ({"name": "line\nbreak"}, "api_token.name"),
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(lab: Any, fields: dict[str, Any], field: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await create(lab.owner, **fields)
    assert refusal.fields == [field]


async def create_in_session(person: Any, **fields: Any) -> ApiToken:
    me = await person.login()
    request = CreateApiTokenRequest(api_token=ApiToken(name="test", **fields))
    token: ApiToken = await person.auth.CreateApiToken(request, metadata=person.headers(x_csrf_token=me.csrf_token))
    return token


@pytest.mark.parametrize("role", ["EDITOR", "OWNER"])
async def test_editors_may_let_programs_ingest(lab: Any, person: Any, role: str) -> None:
    await person.join(lab, role)
    token = await create_in_session(person, scopes=["INGEST"], project_id=lab.project_id)
    assert token.project_id == lab.project_id


async def test_viewers_may_not_and_the_attempt_is_recorded(lab: Any, person: Any, rig: Any) -> None:
    await person.join(lab, "VIEWER")
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW") as refusal:
        await create_in_session(person, scopes=["INGEST"], project_id=lab.project_id)
    assert refusal.info.metadata == {"required_role": "EDITOR"}
    attempts = await rows(rig, "SELECT reason FROM denied_attempts WHERE actor = %s", f"user:{person.user_id}")
    assert attempts == [{"reason": "ROLE_TOO_LOW"}]


async def test_an_outsider_learns_nothing_of_a_project(lab: Any, person: Any) -> None:
    with refused("NOT_FOUND", "NOT_FOUND") as foreign:
        await create_in_session(person, scopes=["INGEST"], project_id=lab.project_id)
    with refused("NOT_FOUND", "NOT_FOUND") as absent:
        await create_in_session(person, scopes=["INGEST"], project_id=ABSENT)
    assert foreign.text == absent.text


async def test_the_admin_scope_is_for_administrators(person: Any, rig: Any) -> None:
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW") as refusal:
        await create_in_session(person, scopes=["ADMIN"])
    assert refusal.info.metadata == {"required_role": "ADMIN"}
    await rows(rig, "UPDATE users SET is_admin = true WHERE user_id = %s", person.user_id)
    assert (await create_in_session(person, scopes=["ADMIN"])).scopes == [ApiToken.ADMIN]


async def test_a_token_expires(lab: Any, auth: Any, rig: Any) -> None:
    token = await create(lab.owner, expires_at=Timestamp(seconds=int(time.time()) + 3600))
    await auth.GetMe(GetMeRequest(), metadata=bearer(token))
    await rows(
        rig,
        "UPDATE api_tokens SET expires_at = now() - interval '1 second' WHERE api_token_id = %s",
        token.api_token_id,
    )
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
        await auth.GetMe(GetMeRequest(), metadata=bearer(token))


async def test_a_revoked_token_fails_at_once_and_stays_revoked(lab: Any, auth: Any) -> None:
    token = await create(lab.owner)
    stub, request = lab.owner.stub(AuthServiceStub), RevokeApiTokenRequest(api_token_id=token.api_token_id)
    revoked = await stub.RevokeApiToken(request)
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
        await auth.GetMe(GetMeRequest(), metadata=bearer(token))
    assert revoked.HasField("revoked_at")
    assert await stub.RevokeApiToken(request) == revoked


async def test_tokens_of_others_cannot_be_seen_or_revoked(lab: Any) -> None:
    token = await create(lab.owner)
    others = lab.editor.stub(AuthServiceStub)
    with refused("NOT_FOUND", "NOT_FOUND") as foreign:
        await others.RevokeApiToken(RevokeApiTokenRequest(api_token_id=token.api_token_id))
    with refused("NOT_FOUND", "NOT_FOUND") as absent:
        await others.RevokeApiToken(RevokeApiTokenRequest(api_token_id=ABSENT))
    assert foreign.text == absent.text
    listed = await others.ListApiTokens(ListApiTokensRequest())
    assert token.api_token_id not in [item.api_token_id for item in listed.api_tokens]


async def test_pages_hold_all_tokens_newest_first(lab: Any) -> None:
    made = [(await create(lab.owner, name=f"token {i}")).api_token_id for i in range(5)]
    stub, seen, page_token = lab.owner.stub(AuthServiceStub), list[str](), ""
    while True:
        page = await stub.ListApiTokens(ListApiTokensRequest(page_size=2, page_token=page_token))
        assert len(page.api_tokens) <= 2
        seen += [item.api_token_id for item in page.api_tokens]
        page_token = page.next_page_token
        if not page_token:
            break
    assert seen[:5] == made[::-1]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("scopes", "project_id", "allowed"),
    [
        (["READ"], "", True),
        (["READ", "INGEST"], "p", True),
        (["INGEST"], "another", False),
        (["WRITE"], "", False),
        (["ADMIN"], "", False),
    ],
)
def test_a_token_gives_only_what_it_has(scopes: list[str], project_id: str, allowed: bool) -> None:
    holder = Principal(Kind.API_TOKEN, user_id="u", is_admin=True, scopes=frozenset({"READ", "INGEST"}), project_id="p")
    wanted = ApiToken(name="x", scopes=scopes, project_id=project_id)
    if allowed:
        check_token(wanted, holder, datetime.now(UTC))
    else:
        with pytest.raises(PermissionDenied, match=scopes[0]):
            check_token(wanted, holder, datetime.now(UTC))


@pytest.mark.parametrize(
    ("own_s", "wanted_s", "allowed"), [(60, 60, True), (60, 61, False), (60, None, False), (None, None, True)]
)
async def test_a_token_does_not_outlive_the_one_that_made_it(
    lab: Any, auth: Any, own_s: int | None, wanted_s: int | None, allowed: bool
) -> None:
    now = int(time.time())

    def end(after_s: int | None) -> dict[str, Timestamp]:
        return {} if after_s is None else {"expires_at": Timestamp(seconds=now + after_s)}

    parent = await create(lab.owner, scopes=["READ", "WRITE"], **end(own_s))
    request = CreateApiTokenRequest(api_token=ApiToken(name="child", scopes=["READ"], **end(wanted_s)))
    if allowed:
        await auth.CreateApiToken(request, metadata=bearer(parent))
        return
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await auth.CreateApiToken(request, metadata=bearer(parent))
    assert refusal.fields == ["api_token.expires_at"]
