"""What the server did not take of a stream."""

import logging
from collections import deque
from collections.abc import Callable

from rigmesh.v1.telemetry_ingest_pb2 import Reject

KEPT = 100

log = logging.getLogger(__name__)


class RejectLog:
    """The newest 100 Rejects and how many there were. The first of each kind is logged, so that none goes unseen."""

    def __init__(self, on_reject: Callable[[Reject], None] | None):
        self.newest: deque[Reject] = deque(maxlen=KEPT)
        self.count = 0
        self._on_reject = on_reject
        self._logged: set[tuple[int, str]] = set()

    def add(self, reject: Reject, what: str) -> None:
        """Keeps one, and hands it to the callback. `what` names for people what was rejected."""
        self.newest.append(reject)
        self.count += 1
        kind = (reject.alias, reject.reason)
        if kind not in self._logged:
            self._logged.add(kind)
            log.warning("%s: rejected with %s: %s", what, reject.reason, reject.message)
        if self._on_reject:
            try:
                self._on_reject(reject)
            except Exception:  # a fault in the caller's code must not cost the stream
                log.exception("on_reject failed")
