import asyncio
import hashlib
import time
from typing import Any

import argon2
import pytest
from uuid_utils import uuid7

from rigmesh.v1.auth_service_pb2 import GetMeRequest, LoginRequest, LogoutRequest
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub
from rigmesh.v1.project_pb2 import Member
from services.auth import queries
from services.db.pool import open_pools
from services.settings import Settings
from tests.factory import make_project, rows
from tests.refusals import reason_of, refused


async def test_a_login_answers_who_one_is_and_sets_the_cookie(person: Any) -> None:
    call = person.auth.Login(LoginRequest(username=person.username.upper(), password=person.password))
    me = await call
    cookie = dict(await call.initial_metadata())["set-cookie"]
    assert me.user.user_id == person.user_id
    assert me.user.username == person.username
    assert 12 * 3600 - 60 < me.session_expires_at.seconds - time.time() <= 12 * 3600 + 1
    name, *attributes = cookie.split("; ")
    assert name.startswith("__Host-sid=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} < set(attributes)
    assert "Domain" not in cookie


async def test_the_cookie_is_a_credential_and_only_its_hash_is_stored(person: Any, rig: Any) -> None:
    me = await person.login()
    secret = person.cookie.partition("=")[2]
    assert len(secret) == 43
    assert await person.auth.GetMe(GetMeRequest(), metadata=person.headers()) == me
    (stored,) = await rows(rig, "SELECT secret_hash FROM sessions WHERE user_id = %s", person.user_id)
    assert stored["secret_hash"] == hashlib.sha256(secret.encode()).digest()


async def test_every_login_is_a_new_session_with_its_own_csrf_token(person: Any) -> None:
    first, first_cookie = await person.login(), person.cookie
    second = await person.login()
    assert person.cookie != first_cookie
    assert first.csrf_token != second.csrf_token


async def test_cookies_of_other_applications_do_no_harm(person: Any) -> None:
    await person.login()
    await person.auth.GetMe(GetMeRequest(), metadata=(("cookie", f"a[b={{1 2}}; {person.cookie}; =; x"),))


async def test_me_lists_the_projects_by_name_with_the_role(rig: Any, lab: Any, person: Any) -> None:
    other = await make_project(rig, **{person.user_id: "OWNER"})
    await person.join(lab, "VIEWER")
    me = await person.login()
    assert [(project.project_id, project.role) for project in me.projects] == [
        (lab.project_id, Member.VIEWER),
        (other, Member.OWNER),
    ]


async def test_a_program_has_no_session(lab: Any) -> None:
    me = await lab.viewer.stub(AuthServiceStub).GetMe(GetMeRequest())
    assert me.user.user_id == lab.viewer.user_id
    assert me.csrf_token == ""
    assert not me.HasField("session_expires_at")


async def test_a_wrong_password_and_an_absent_name_look_the_same(person: Any) -> None:
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD") as wrong:
        await person.login(password="wrong password")
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD") as absent:
        await person.login(username=f"{person.username}-absent")
    assert wrong.text == absent.text
    assert wrong.info == absent.info


async def test_a_disabled_user_cannot_sign_in_and_has_no_session(person: Any, rig: Any) -> None:
    await person.login()
    await rows(rig, "UPDATE users SET disabled_at = now() WHERE user_id = %s", person.user_id)
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
        await person.auth.GetMe(GetMeRequest(), metadata=person.headers())
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
        await person.login()


async def test_after_five_failures_even_the_right_password_has_to_wait(person: Any) -> None:
    for spelling in (person.username, person.username.upper(), person.username.lower(), *[person.username] * 2):
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await person.login(password="wrong password", username=spelling)
    with refused("RESOURCE_EXHAUSTED", "TOO_MANY_LOGINS") as refusal:
        await person.login()
    assert 890 < refusal.retry_after_s <= 900


async def test_parallel_guesses_are_counted_one_by_one(rig: Any) -> None:
    name = str(uuid7())
    async with open_pools(Settings(), rig.database_url) as pools:
        waits_s = await asyncio.gather(*(queries.open_attempt(pools.write, name) for _ in range(40)))
    assert waits_s.count(None) == 5


async def test_a_crowd_at_the_door_is_answered_at_once(rig: Any, auth: Any) -> None:
    here = (("x-forwarded-for", "203.0.113.1"),)
    crowd = (auth.Login(LoginRequest(username=f"{uuid7()}", password="x"), metadata=here, timeout=2) for _ in range(20))
    outcomes = await asyncio.gather(*crowd, return_exceptions=True)
    assert {reason_of(outcome) for outcome in outcomes} <= {"WRONG_PASSWORD", "LIMIT_EXCEEDED"}


async def test_a_success_clears_the_failures(person: Any, rig: Any) -> None:
    for _ in range(4):
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await person.login(password="wrong password")
    await person.login()
    assert not await rows(rig, "SELECT 1 FROM login_failures WHERE username = lower(%s)", person.username)


async def test_failures_are_forgotten_after_a_quarter_of_an_hour(person: Any, rig: Any) -> None:
    await rows(
        rig,
        """INSERT INTO login_failures (username, failed_at)
        SELECT lower(%s), now() - interval '15 minutes 1 second' FROM generate_series(1, 9)""",
        person.username,
    )
    await person.login()


@pytest.mark.parametrize(
    "end",
    [
        "last_used_at = now() - interval '31 minutes'",
        "expires_at = now() - interval '1 second'",
        "ended_at = now()",
    ],
)
async def test_a_session_ends(person: Any, rig: Any, end: str) -> None:
    await person.login()
    await rows(rig, f"UPDATE sessions SET {end} WHERE user_id = %s", person.user_id)
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
        await person.auth.GetMe(GetMeRequest(), metadata=person.headers())


async def test_logout_ends_the_session_on_the_server_and_in_the_browser(person: Any) -> None:
    me = await person.login()
    call = person.auth.Logout(LogoutRequest(), metadata=person.headers(x_csrf_token=me.csrf_token))
    await call
    cookie = dict(await call.initial_metadata())["set-cookie"]
    assert cookie.startswith("__Host-sid=; ")
    assert "Expires=Thu, 01 Jan 1970" in cookie
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
        await person.auth.GetMe(GetMeRequest(), metadata=person.headers())


async def test_a_logout_takes_no_notice_of_a_key(person: Any, rig: Any) -> None:
    """The session that a copy would come from is over, so that no answer could be replayed to it."""
    me, key = await person.login(), str(uuid7())
    headers = person.headers(x_csrf_token=me.csrf_token, idempotency_key=key)
    await person.auth.Logout(LogoutRequest(), metadata=headers)
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
        await person.auth.Logout(LogoutRequest(), metadata=headers)
    assert not await rows(rig, "SELECT 1 FROM idempotency_keys WHERE key = %s", key)


async def test_a_login_touches_no_failures_of_others(person: Any, rig: Any) -> None:
    """Else it would wait for all who are logging in at the same moment."""
    other = str(uuid7())
    await rows(rig, "INSERT INTO login_failures (username, failed_at) VALUES (%s, now() - interval '1 hour')", other)
    await person.login()
    assert len(await rows(rig, "SELECT 1 FROM login_failures WHERE username = %s", other)) == 1


async def test_an_api_token_has_no_session_to_end(lab: Any) -> None:
    with refused("FAILED_PRECONDITION", "NO_SESSION"):
        await lab.owner.stub(AuthServiceStub).Logout(LogoutRequest())


async def test_events_name_who_came_and_went(person: Any, rig: Any) -> None:
    me = await person.login()
    await person.auth.Logout(LogoutRequest(), metadata=person.headers(x_csrf_token=me.csrf_token))
    events = await rows(rig, "SELECT * FROM events WHERE actor = %s ORDER BY event_id", f"user:{person.user_id}")
    assert [event["type"] for event in events] == ["session.started", "session.ended"]


async def test_a_login_renews_a_hash_of_older_parameters(person: Any, rig: Any) -> None:
    old = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(person.password)
    await rows(rig, "UPDATE users SET password_hash = %s WHERE user_id = %s", old, person.user_id)
    await person.login()
    (user,) = await rows(rig, "SELECT password_hash FROM users WHERE user_id = %s", person.user_id)
    assert not argon2.PasswordHasher().check_needs_rehash(user["password_hash"])
    await person.login()
