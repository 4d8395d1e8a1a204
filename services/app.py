"""The composition root: which slices a role serves, and in what order everything starts and stops."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from rigmesh.v1 import (
    auth_service_pb2,
    capture_service_pb2,
    conversion_profile_service_pb2,
    experiment_service_pb2,
    project_service_pb2,
    run_service_pb2,
    sensor_service_pb2,
    telemetry_ingest_service_pb2,
    telemetry_service_pb2,
    user_service_pb2,
)
from services.admin import admin_server
from services.auth import service as auth
from services.background import Background
from services.captures import service as captures
from services.conversion_profiles.service import ConversionProfileService
from services.db.pool import Pools, open_pools
from services.experiments import service as experiments
from services.instance_key import load_or_create
from services.logs import configure_logs
from services.projects import service as projects
from services.rpc.admission import Admission
from services.rpc.last_use import open_last_use
from services.rpc.pipeline import Pipeline
from services.runs import service as runs
from services.sensors import service as sensors
from services.settings import Settings
from services.telemetry.ingest.service import open_ingest
from services.telemetry.mapping import map_profile
from services.telemetry.reads.service import open_reads
from services.users import service as users

# Above the limit of a message (rpc.validate), so that what is a little over it gets an answer of ours, with a reason.
MAX_RECEIVED_BYTES = 5 * 1024 * 1024
MAX_CONCURRENT_RPCS = 2000
KEEPALIVE_MS = 20_000
GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVED_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.so_reuseport", 0),
)
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
Slices = list[tuple[ServiceDescriptor, object]]

CONTROL_SERVICES: Slices = [
    (auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"], auth),
    (user_service_pb2.DESCRIPTOR.services_by_name["UserService"], users),
    (project_service_pb2.DESCRIPTOR.services_by_name["ProjectService"], projects),
    (experiment_service_pb2.DESCRIPTOR.services_by_name["ExperimentService"], experiments),
    (run_service_pb2.DESCRIPTOR.services_by_name["RunService"], runs),
    (capture_service_pb2.DESCRIPTOR.services_by_name["CaptureService"], captures),
    (sensor_service_pb2.DESCRIPTOR.services_by_name["SensorService"], sensors),
    (
        conversion_profile_service_pb2.DESCRIPTOR.services_by_name["ConversionProfileService"],
        ConversionProfileService(map_profile),
    ),
]
INGEST = telemetry_ingest_service_pb2.DESCRIPTOR.services_by_name["TelemetryIngestService"]
READS = telemetry_service_pb2.DESCRIPTOR.services_by_name["TelemetryService"]
ALL_SERVICES = [*(service.full_name for service, _ in CONTROL_SERVICES), INGEST.full_name, READS.full_name]


class ServeError(Exception):
    """The role cannot run, or cannot go on; the text says why."""


async def serve(role: str, settings: Settings) -> None:
    """Runs one role until SIGTERM or SIGINT: then health turns NOT_SERVING, streams drain, and the pools close last.

    The end of a background task stops it in the same way, and raises ServeError.
    """
    configure_logs(settings)
    if not settings.database_url:
        raise ServeError("RIGMESH_DATABASE_URL is not set; `rigmesh up` runs a database of its own")
    instance_key = load_or_create(settings.key_file)
    stopping = _stop_signal()
    background = Background(stopping)
    async with contextlib.AsyncExitStack() as stack:
        pools = await stack.enter_async_context(open_pools(settings, settings.database_url))
        await stack.enter_async_context(admin_server(settings, role, pools, background))
        last_use = await stack.enter_async_context(open_last_use(pools.write, background))
        slices = await _slices(role, settings, pools, stack, stopping, background)
        pipeline = Pipeline(Admission(pools, instance_key, last_use.note))
        await stack.enter_async_context(_grpc_server(role, settings, pipeline, slices))
        _tune_collector()
        await stopping.wait()
    if background.failure:
        raise ServeError(f"{background.failure} ended by itself; the log says why")


async def _slices(
    role: str,
    settings: Settings,
    pools: Pools,
    stack: contextlib.AsyncExitStack,
    stopping: asyncio.Event,
    background: Background,
) -> Slices:
    if role == "control":
        return CONTROL_SERVICES
    ingest = await stack.enter_async_context(open_ingest(settings, pools, stopping, background))
    reads = await stack.enter_async_context(open_reads(settings, stopping, background))
    return [(INGEST, ingest), (READS, reads)]


def _tune_collector() -> None:
    """What was made until now stays; batches and futures come and go in thousands, and hardly ever in cycles."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@contextlib.asynccontextmanager
async def _grpc_server(role: str, settings: Settings, pipeline: Pipeline, slices: Slices) -> AsyncIterator[None]:
    server = grpc.aio.server(options=GRPC_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS)
    server.add_generic_rpc_handlers([pipeline.handlers(service, slice_) for service, slice_ in slices])
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflected = ALL_SERVICES if role == "control" else [service.full_name for service, _ in slices]
    reflection.enable_server_reflection([*reflected, HEALTH, reflection.SERVICE_NAME], server)
    _listen(server, settings, role)
    await server.start()
    for name in ("", *(service.full_name for service, _ in slices)):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield
    finally:
        await health.enter_graceful_shutdown()
        # Streams have seen the stop signal themselves and end within this time with a last ack.
        await server.stop(settings.drain_timeout_s)


def _listen(server: grpc.aio.Server, settings: Settings, role: str) -> None:
    address = f"{_host(settings.bind)}:{settings.role_grpc_port(role)}"
    if settings.tls_cert and settings.tls_key:
        pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
        server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        server.add_insecure_port(address)


def _host(bind: str) -> str:
    return f"[{bind}]" if ":" in bind else bind


def _stop_signal() -> asyncio.Event:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
