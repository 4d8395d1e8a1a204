"""Signs in as a browser does, and makes an API token for programs."""

import grpc

from rigmesh.v1.auth_pb2 import ApiToken
from rigmesh.v1.auth_service_pb2 import CreateApiTokenRequest, LoginRequest
from rigmesh.v1.auth_service_pb2_grpc import AuthServiceStub

PASSWORD = "a long enough password"


async def sign_in(
    channel: grpc.aio.Channel, username: str, password: str, scopes: list[str], project_id: str = ""
) -> tuple[str, str]:
    """The user_id and a token with these scopes."""
    auth = AuthServiceStub(channel)
    login = auth.Login(LoginRequest(username=username, password=password))
    me = await login
    cookie = dict(await login.initial_metadata())["set-cookie"].partition(";")[0]
    token = await auth.CreateApiToken(
        CreateApiTokenRequest(api_token=ApiToken(name="tests", scopes=scopes, project_id=project_id)),
        metadata=(("cookie", cookie), ("x-csrf-token", me.csrf_token)),
    )
    return me.user.user_id, token.token
