"""The channel to a Rigmesh with its typed stubs."""

import os
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import urlsplit

import grpc

from rigmesh.v1 import (
    auth_service_pb2_grpc,
    capture_service_pb2_grpc,
    conversion_profile_service_pb2_grpc,
    experiment_service_pb2_grpc,
    project_service_pb2_grpc,
    run_service_pb2_grpc,
    sensor_service_pb2_grpc,
    telemetry_ingest_service_pb2_grpc,
    telemetry_service_pb2_grpc,
    user_service_pb2_grpc,
)
from rigmesh.v1.telemetry_ingest_service_pb2 import TelemetryIngestResponse
from rigmesh_client.credential import StreamCredential, UnaryCredential, bearer
from rigmesh_client.retries import service_config

DEFAULT_ENDPOINT = "http://127.0.0.1:8080"
MAX_MESSAGE_BYTES = 4 << 20
IngestCall: TypeAlias = "grpc.aio.StreamStreamCall[bytes, TelemetryIngestResponse]"


class Connection:
    """One HTTP/2 connection, opened by the first call and again whenever it broke; an async context manager.

    Every service of the contract is an attribute, a stub of the generated code: `await connection.runs.GetRun(...)`.
    Calls carry the token; those that change something carry an Idempotency-Key, so that repeating them after
    UNAVAILABLE has one effect.
    """

    def __init__(self, endpoint: str, token: str, root_certificates: bytes | None = None):
        target, tls = _parse_endpoint(endpoint)
        options = _channel_options(through_proxy=not target.startswith(("127.", "localhost:", "[::1]:")))
        interceptors = [UnaryCredential(token), StreamCredential(token)]
        if tls:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self.channel = grpc.aio.secure_channel(target, credentials, options, interceptors=interceptors)
        else:
            self.channel = grpc.aio.insecure_channel(target, options, interceptors=interceptors)
        self._token = token
        self.auth = auth_service_pb2_grpc.AuthServiceStub(self.channel)
        self.captures = capture_service_pb2_grpc.CaptureServiceStub(self.channel)
        self.conversion_profiles = conversion_profile_service_pb2_grpc.ConversionProfileServiceStub(self.channel)
        self.experiments = experiment_service_pb2_grpc.ExperimentServiceStub(self.channel)
        self.ingest = telemetry_ingest_service_pb2_grpc.TelemetryIngestServiceStub(self.channel)
        self.projects = project_service_pb2_grpc.ProjectServiceStub(self.channel)
        self.runs = run_service_pb2_grpc.RunServiceStub(self.channel)
        self.sensors = sensor_service_pb2_grpc.SensorServiceStub(self.channel)
        self.telemetry = telemetry_service_pb2_grpc.TelemetryServiceStub(self.channel)
        self.users = user_service_pb2_grpc.UserServiceStub(self.channel)

    def open_ingest_call(self) -> IngestCall:
        """A new TelemetryIngest call that writes request messages as the bytes that they are."""
        method: grpc.aio.StreamStreamMultiCallable[bytes, TelemetryIngestResponse] = self.channel.stream_stream(
            "/rigmesh.v1.TelemetryIngestService/TelemetryIngest",
            response_deserializer=TelemetryIngestResponse.FromString,
        )
        return method(metadata=bearer(self._token))

    async def close(self) -> None:
        """Ends every call and the connection."""
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def connect(
    endpoint: str | None = None, token: str | None = None, *, root_certificates: bytes | None = None
) -> Connection:
    """A connection to Rigmesh; nothing is sent yet.

    endpoint: `https://host:port` with TLS, `http://host:port` or `host:port` without. Default: RIGMESH_ENDPOINT, else
        http://127.0.0.1:8080.
    token: a sensor or API token. Default: RIGMESH_TOKEN, else none.
    root_certificates: PEM of the authority to trust instead of the well-known ones.
    ValueError: the endpoint is none of these.
    """
    if endpoint is None:
        endpoint = os.environ.get("RIGMESH_ENDPOINT") or DEFAULT_ENDPOINT
    if token is None:
        token = os.environ.get("RIGMESH_TOKEN", "")
    return Connection(endpoint, token, root_certificates)


def _parse_endpoint(endpoint: str) -> tuple[str, bool]:
    """The channel's target, and whether it takes TLS."""
    url = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query or url.username:
        raise ValueError(f"an endpoint is https://host:port, http://host:port or host:port, not {endpoint!r}")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{url.port or (443 if url.scheme == 'https' else 80)}", url.scheme == "https"


def _channel_options(*, through_proxy: bool) -> list[tuple[str, int | str]]:
    return [
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),  # a stream may be silent for long
        # beside the streams' own backoff this only keeps one process from hammering a dead address
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.enable_http_proxy", int(through_proxy)),  # http_proxy is not meant for this machine itself
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.service_config", service_config()),
    ]
