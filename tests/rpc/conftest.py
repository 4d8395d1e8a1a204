from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from uuid_utils import uuid7

from rigmesh.v1.auth_service_pb2 import GetMeRequest
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub
from services.rpc import tokens
from tests.factory import rows


@pytest.fixture
async def channel(rig: Any) -> AsyncIterator[grpc.aio.Channel]:
    """To the control role, without any credential."""
    async with grpc.aio.insecure_channel(rig.control) as channel:
        yield channel


@dataclass(frozen=True)
class Session:
    """A browser that is signed in as the lab's owner."""

    session_id: str
    cookie: str
    csrf_token: str

    def headers(self, **more: str) -> tuple[tuple[str, str], ...]:
        return ("cookie", self.cookie), *((name.replace("_", "-"), value) for name, value in more.items())


@pytest.fixture
async def session(rig: Any, lab: Any, channel: grpc.aio.Channel) -> Session:
    session_id, secret = str(uuid7()), tokens.random_text(43)
    await rows(
        rig,
        """INSERT INTO sessions (session_id, secret_hash, user_id, expires_at)
        VALUES (%s, %s, %s, now() + interval '1 hour')""",
        session_id,
        tokens.hash_secret(secret),
        lab.owner.user_id,
    )
    cookie = f"__Host-sid={secret}"
    me = await AuthServiceStub(channel).GetMe(GetMeRequest(), metadata=(("cookie", cookie),))
    return Session(session_id, cookie, me.csrf_token)
