"""The admin port of a role: health, readiness, version and metrics over plain HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

import psycopg
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.background import Background
from services.db.pool import Pools
from services.settings import Settings


@contextlib.asynccontextmanager
async def admin_server(settings: Settings, role: str, pools: Pools, background: Background) -> AsyncIterator[None]:
    """Serves /healthz (the process runs), /readyz (the database answers), /version and /metrics while open."""
    config = uvicorn.Config(
        _app(pools),
        host=settings.bind,
        port=settings.role_admin_port(role),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    async with background.running(_serve(uvicorn.Server(config)), "the admin port"):
        yield


async def _serve(server: uvicorn.Server) -> None:
    try:
        # serve() would take over the signals, which belong to the role.
        await server._serve()
    except asyncio.CancelledError:
        await server.shutdown()
        raise


def _app(pools: Pools) -> Starlette:
    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        try:
            async with pools.read.connection() as db:
                await db.execute("SELECT 1")
        except (psycopg.Error, PoolTimeout):
            return PlainTextResponse("the database does not answer\n", status_code=503)
        return PlainTextResponse("ok\n")

    async def version_(request: Request) -> Response:
        return JSONResponse({"version": version("rigmesh")})

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/version", version_),
            Route("/metrics", metrics),
        ]
    )
