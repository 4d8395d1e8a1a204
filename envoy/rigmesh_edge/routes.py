"""Envoy's routes, derived from the descriptors: no RPC is named by hand."""

from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from rigmesh_edge.descriptors import STANDARD_SERVICES, is_stream, role, services

Json = dict[str, Any]

# A server answers a unary call within its own limits long before this.
_UNARY = {
    "timeout": "15s",
    # Only where the call never reached a handler, so that nothing can happen twice.
    "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
}
_STREAM = {"timeout": "0s", "idle_timeout": "0s", "max_stream_duration": {"max_stream_duration": "0s"}}

_REST_FILTERS = (
    "envoy.filters.http.header_mutation",
    "envoy.filters.http.buffer",
    "envoy.filters.http.grpc_json_transcoder",
)

# What is not gRPC: the transcoder refuses it, or turns it into a call that matches a route above.
_REST = {"match": {"prefix": "/"}, "route": {"cluster": "control"}}


def routes() -> list[Json]:
    """Routes by gRPC path; the transcoder makes REST calls match them too. Streams come first and have no limits."""
    ours = services()
    return [
        *(route for service in ours for route in _streams(service)),
        *(_route({"prefix": f"/{service.full_name}/"}, role(service.full_name), _UNARY) for service in ours),
        *(_route({"prefix": f"/{name}/"}, role(name), _STREAM) for name in STANDARD_SERVICES),
        _refused({"prefix": "/", "grpc": {}}),
        _refused({"connect_matcher": {}}),
        _REST,
    ]


def without(*filters: str) -> Json:
    """The setting that takes filters away from the requests of a route, as they come in."""
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    return dict.fromkeys(filters, off)


def _refused(match: Json) -> Json:
    # At once: the buffer filter would wait for the end of what may never end.
    return {
        "match": match,
        "direct_response": {"status": 404},
        "typed_per_filter_config": without(*_REST_FILTERS),
    }


def _streams(service: ServiceDescriptor) -> list[Json]:
    names = [method.name for method in service.methods if is_stream(method)]
    return [_route({"path": f"/{service.full_name}/{name}"}, role(service.full_name), _STREAM) for name in names]


def _route(match: Json, cluster: str, limits: Json) -> Json:
    # Only gRPC content types: anything else would reach a service unchecked by the filters for REST. Those filters are
    # chosen by the request as it came, when a REST call still has its own path.
    return {
        "match": {**match, "grpc": {}},
        "route": {"cluster": cluster, **limits},
        "typed_per_filter_config": without(*_REST_FILTERS),
    }
