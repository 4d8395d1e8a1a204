"""Every setting of the servers: read once from RIGMESH_* variables, then handed on. `rigmesh settings` prints them."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]
Upstreams = Annotated[tuple[str, ...], NoDecode]

ROLES = ("control", "telemetry")


class Settings(BaseSettings):
    """Units stand last in a name; ports are TCP. Unset URLs and upstreams mean: the embedded default."""

    model_config = SettingsConfigDict(env_prefix="RIGMESH_", env_ignore_empty=True, frozen=True, extra="ignore")

    database_url: str = Field("", description="PostgreSQL with TimescaleDB; empty = an own cluster under data_dir")
    owner_database_url: str = Field("", description="the same database as the owner of its tables, for migrations")
    data_dir: Path = Field(Path(".rigmesh"), description="the embedded cluster, keys, logs")
    bind: str = Field("127.0.0.1", description="address that Envoy, direct gRPC and the admin ports listen on")
    http_port: Port = Field(8080, description="Envoy: REST, SSE and gRPC")
    grpc_port: Port = Field(50051, description="direct gRPC: control; telemetry is the next one")
    admin_port: Port = Field(9464, description="health and metrics: control, +1 telemetry, +4 Envoy")
    tls_cert: Path | None = Field(None, description="PEM chain for Envoy and direct gRPC; unset = no TLS")
    tls_key: Path | None = Field(None, description="PEM key of tls_cert")
    control_upstreams: Upstreams = Field((), description="host:port,… of control processes, for Envoy")
    telemetry_upstreams: Upstreams = Field((), description="host:port,… of telemetry processes, for Envoy")
    cors_origins: Upstreams = Field((), description="origins that a browser may call from, beside our own")
    instance_key_file: Path | None = Field(
        None, description="32 random bytes, shared by replicas; data_dir/instance.key"
    )
    log_format: Literal["json", "console"] = Field("json", description="one line a call")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    pool_size: int = Field(8, ge=2, le=100, description="connections of each pool of a process, ingest aside")
    pool_timeout_s: float = Field(2.0, gt=0, description="longest wait for a connection")
    statement_timeout_s: float = Field(5.0, gt=0, description="longest statement of a unary call; streams have 60 s")
    drain_timeout_s: float = Field(5.0, gt=0, le=25, description="longest wait for streams to end at stop")

    @field_validator("control_upstreams", "telemetry_upstreams", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("bind")
    @classmethod
    def _address(cls, value: str) -> str:
        return str(ip_address(value))

    @model_validator(mode="after")
    def _whole_pair(self) -> "Settings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or neither")
        return self

    @property
    def owner_url(self) -> str:
        return self.owner_database_url or self.database_url

    @property
    def key_file(self) -> Path:
        return self.instance_key_file or self.data_dir / "instance.key"

    def role_grpc_port(self, role: str) -> int:
        """Port of direct gRPC of a role."""
        return self.grpc_port + ROLES.index(role)

    def role_admin_port(self, role: str) -> int:
        """Port of health and metrics of a role."""
        return self.admin_port + ROLES.index(role)

    @property
    def envoy_admin_port(self) -> int:
        return self.admin_port + 4
