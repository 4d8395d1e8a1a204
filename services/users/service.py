"""UserService: the people of this instance."""

import asyncio

from rigmesh.v1.user_pb2 import User
from rigmesh.v1.user_service_pb2 import CreateUserRequest
from services.errors import invalid_field
from services.passwords import hash_password
from services.rpc.call import Call
from services.users import queries


async def CreateUser(request: CreateUserRequest, call: Call) -> User:
    if not request.user.password:
        raise invalid_field("user.password", "is required")
    password_hash = await asyncio.to_thread(hash_password, request.user.password)
    user = await queries.create_user(call.db, request.user, password_hash)
    call.emit("user", user.user_id, after=user)
    return user
