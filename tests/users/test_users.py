import secrets
from typing import Any

import grpc
import pytest

from rigmesh.v1.auth_service_pb2 import LoginRequest
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub
from rigmesh.v1.user_pb2 import User
from rigmesh.v1.user_service_pb2 import CreateUserRequest
from rigmesh.v1.user_service_pb2_grpc import UserServiceStub
from tests.factory import events_of
from tests.refusals import refused


async def create(caller: Any, **fields: Any) -> User:
    wanted = {"username": f"user-{secrets.token_hex(6)}", "password": "a long enough one"} | fields
    user: User = await caller.stub(UserServiceStub).CreateUser(CreateUserRequest(user=User(**wanted)))
    return user


async def test_a_new_user_can_sign_in_at_once(rig: Any) -> None:
    user = await create(
        rig.admin, email="New.User@example.org".replace("New", secrets.token_hex(4)), display_name="Nina"
    )
    assert user.password == ""
    assert user.display_name == "Nina"
    async with grpc.aio.insecure_channel(rig.control) as channel:
        request = LoginRequest(username=user.username, password="a long enough one")
        me = await AuthServiceStub(channel).Login(request)
    assert me.user == user
    assert not me.projects


async def test_only_administrators_create_users(lab: Any) -> None:
    with refused("PERMISSION_DENIED", "SCOPE_MISSING") as refusal:
        await create(lab.owner)
    assert refusal.info.metadata == {"required_scope": "ADMIN"}


async def test_the_event_tells_who_was_made_and_no_password(rig: Any) -> None:
    user = await create(rig.admin)
    (event,) = await events_of(rig, user.user_id)
    assert event["type"] == "user.created"
    assert event["after"]["username"] == user.username
    assert "password" not in str(event["after"])


async def test_names_and_addresses_are_unique_without_regard_to_case(rig: Any) -> None:
    name = f"Taken-{secrets.token_hex(6)}"
    await create(rig.admin, username=name, email=f"{name}@example.org")
    with refused("ALREADY_EXISTS", "ALREADY_EXISTS") as refusal:
        await create(rig.admin, username=name.upper())
    assert refusal.info.metadata == {"resource": "user", "field": "username"}
    with refused("ALREADY_EXISTS", "ALREADY_EXISTS") as refusal:
        await create(rig.admin, email=f"{name}@example.org".upper())
    assert refusal.info.metadata == {"resource": "user", "field": "email"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": ""}, "user.password"),
        ({"password": "short"}, "user.password"),
        ({"username": ""}, "user.username"),
        ({"username": "with space"}, "user.username"),
        ({"username": "x" * 65}, "user.username"),
        ({"email": "nobody"}, "user.email"),
        ({"display_name": "a\u202eb"}, "user.display_name"),
    ],
)
async def test_a_user_that_breaks_a_rule_is_refused(rig: Any, fields: dict[str, str], field: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await create(rig.admin, **fields)
    assert refusal.fields == [field]
