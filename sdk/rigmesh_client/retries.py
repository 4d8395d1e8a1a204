"""Which calls may be repeated, as the contract itself says, and how gRPC repeats them."""

import json
from collections.abc import Iterator

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

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

_CONTRACT = (
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
_LOGIN = "rigmesh.v1.AuthService.Login"  # takes no key, and each one is a new session


def _repeatable() -> Iterator[MethodDescriptor]:
    for module in _CONTRACT:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not (method.client_streaming or method.server_streaming or method.full_name == _LOGIN):
                    yield method


def keyed_paths() -> frozenset[str]:
    """Paths of the calls that are safe to repeat only with an Idempotency-Key."""
    return frozenset(
        f"/{method.containing_service.full_name}/{method.name}"
        for method in _repeatable()
        if method.GetOptions().idempotency_level == MethodOptions.IDEMPOTENCY_UNKNOWN
    )


def service_config() -> str:
    """gRPC's service config: UNAVAILABLE is tried again, 5 times in all; streams and Login are not."""
    names = [{"service": method.containing_service.full_name, "method": method.name} for method in _repeatable()]
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})
