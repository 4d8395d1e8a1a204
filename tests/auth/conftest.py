import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from uuid_utils import uuid7

from rigmesh.v1.auth_pb2 import Me
from rigmesh.v1.auth_service_pb2 import LoginRequest
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub
from rigmesh.v1.project_pb2 import Member
from rigmesh.v1.project_service_pb2 import AddMemberRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from services.passwords import hash_password
from tests.factory import rows

PASSWORD = "correct horse battery staple"
HASH = hash_password(PASSWORD)


@dataclass
class Person:
    """A user with a password, and the browser that this person sits at."""

    user_id: str
    username: str
    auth: AuthServiceStub
    password: str = PASSWORD
    cookie: str = ""
    address: str = field(default_factory=lambda: f"fd00:{os.urandom(2).hex()}:{os.urandom(2).hex()}::1")

    async def login(self, password: str = "", username: str = "") -> Me:
        request = LoginRequest(username=username or self.username, password=password or self.password)
        call = self.auth.Login(request, metadata=(("x-forwarded-for", self.address),))
        me: Me = await call
        headers = dict(await call.initial_metadata())
        self.cookie = headers["set-cookie"].partition(";")[0]
        return me

    async def join(self, lab: Any, role: str) -> None:
        request = AddMemberRequest(project_id=lab.project_id, user_id=self.user_id, role=Member.Role.Value(role))
        await lab.owner.stub(ProjectServiceStub).AddMember(request)

    def headers(self, **more: str) -> tuple[tuple[str, str], ...]:
        return ("cookie", self.cookie), *((name.replace("_", "-"), value) for name, value in more.items())


@pytest.fixture
async def auth(rig: Any) -> AsyncIterator[AuthServiceStub]:
    """Without any credential."""
    async with grpc.aio.insecure_channel(rig.control) as channel:
        yield AuthServiceStub(channel)


@pytest.fixture
async def person(rig: Any, auth: AuthServiceStub) -> Person:
    user_id = str(uuid7())
    username = f"Person.{user_id[-12:]}"
    await rows(rig, "INSERT INTO users (user_id, username, password_hash) VALUES (%s, %s, %s)", user_id, username, HASH)
    return Person(user_id, username, auth)
