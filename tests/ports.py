"""Free TCP ports of this machine. Another process may take one in between: tests that lose that race fail loudly."""

import random
import socket
from contextlib import ExitStack

# Below those that the system gives to outgoing connections, of which a test session makes thousands.
FIRST, LAST = 20_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row, none of which was given before."""
    while True:
        first = random.randrange(FIRST, LAST - count)
        wanted = set(range(first, first + count))
        if wanted & _given:
            continue
        with ExitStack() as stack:
            try:
                for port in wanted:
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            _given.update(wanted)
            return first
