"""Who calls must be known, and every credential that is not gets the same answer."""

from typing import Any

import grpc
import pytest
from uuid_utils import uuid7

from rigmesh.v1.auth_service_pb2 import GetMeRequest, LoginRequest
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub
from services.rpc import tokens
from tests.factory import rows
from tests.refusals import refused

TEXT = "a valid credential is needed"


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param((), id="none"),
        pytest.param((("authorization", f"Bearer {tokens.new_token(tokens.API)}"),), id="unknown token"),
        pytest.param((("authorization", f"Bearer {tokens.new_token(tokens.SENSOR)}"),), id="unknown sensor token"),
        pytest.param((("authorization", f"Bearer {tokens.new_token(tokens.API)}x"),), id="typing error"),
        pytest.param((("authorization", "Bearer"),), id="no token"),
        pytest.param((("authorization", f"Basic {tokens.new_token(tokens.API)}"),), id="other scheme"),
        pytest.param((("cookie", f"__Host-sid={tokens.random_text(43)}"),), id="unknown session"),
        pytest.param((("cookie", "other=1"),), id="other cookie"),
    ],
)
async def test_what_is_no_credential_is_refused(channel: grpc.aio.Channel, rig: Any, metadata: Any) -> None:
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED") as refusal:
        await AuthServiceStub(channel).GetMe(GetMeRequest(), metadata=metadata)
    assert refusal.text == TEXT


async def test_a_token_with_the_secret_of_another_is_refused(channel: grpc.aio.Channel, lab: Any) -> None:
    token = tokens.parse_token(lab.owner.token)
    assert token is not None
    forged = tokens.Token(token.prefix, token.public_id, tokens.random_text(43))
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED") as refusal:
        await AuthServiceStub(channel).GetMe(GetMeRequest(), metadata=(("authorization", f"Bearer {forged}"),))
    assert refusal.text == TEXT


async def test_a_sensor_is_no_user(channel: grpc.aio.Channel, rig: Any, lab: Any) -> None:
    token, sensor_id = tokens.new_token(tokens.SENSOR), str(uuid7())
    await rows(
        rig, "INSERT INTO sensors (sensor_id, primary_project_id, name) VALUES (%s, %s, 's')", sensor_id, lab.project_id
    )
    await rows(
        rig,
        "INSERT INTO sensor_tokens (sensor_token_id, public_id, secret_hash, sensor_id) VALUES (%s, %s, %s, %s)",
        str(uuid7()),
        token.public_id,
        token.secret_hash,
        sensor_id,
    )
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED") as refusal:
        await AuthServiceStub(channel).GetMe(GetMeRequest(), metadata=(("authorization", f"Bearer {token}"),))
    assert refusal.text == TEXT


async def test_without_a_credential_nothing_of_the_request_is_looked_at(channel: grpc.aio.Channel, rig: Any) -> None:
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
        await channel.unary_unary("/rigmesh.v1.ProjectService/CreateProject")(b"\xff\xff")


async def test_login_is_open_to_all(channel: grpc.aio.Channel, rig: Any) -> None:
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
        await AuthServiceStub(channel).Login(LoginRequest(username=f"nobody-{uuid7()}", password="x"))
