"""One structured log line and the go-grpc-prometheus metrics for each call."""

import time
from dataclasses import dataclass, field

import grpc
import structlog
from prometheus_client import Counter, Histogram

from services.rpc.contract import Rpc

log = structlog.get_logger("rigmesh.call")

_LABELS = ("grpc_type", "grpc_service", "grpc_method")
STARTED = Counter("grpc_server_started_total", "Calls started.", _LABELS)
HANDLED = Counter("grpc_server_handled_total", "Calls ended, by status code.", (*_LABELS, "grpc_code"))
RECEIVED = Counter("grpc_server_msg_received_total", "Messages received.", _LABELS)
SENT = Counter("grpc_server_msg_sent_total", "Messages sent.", _LABELS)
SECONDS = Histogram("grpc_server_handling_seconds", "Time from the start of a call to its end.", _LABELS)


@dataclass
class Observed:
    """A call under observation; `end` is called exactly once."""

    rpc: Rpc
    request_id: str
    principal: str = "anonymous"
    started_at: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        STARTED.labels(*self.labels).inc()

    @property
    def labels(self) -> tuple[str, str, str]:
        kind = {
            (False, False): "unary",
            (False, True): "server_stream",
            (True, False): "client_stream",
            (True, True): "bidi_stream",
        }[self.rpc.streams_request, self.rpc.streams_response]
        return kind, self.rpc.service, self.rpc.name

    def end(self, code: grpc.StatusCode, reason: str = "", error: BaseException | None = None) -> None:
        """Counts and logs the end. `error` is given when its stack is wanted in the log."""
        seconds = time.perf_counter() - self.started_at
        HANDLED.labels(*self.labels, code.name).inc()
        SECONDS.labels(*self.labels).observe(seconds)
        write = log.error if error else log.info
        write(
            "call",
            method=self.rpc.method,
            code=code.name,
            reason=reason or None,
            principal=self.principal,
            request_id=self.request_id,
            ms=round(seconds * 1000, 2),
            exc_info=error,
        )
