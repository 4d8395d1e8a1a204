"""The data folder: who may enter it, and its lock."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotStartError(Exception):
    """The embedded default cannot start; the text says why and what to do."""


def make_folder(folder: Path) -> Path:
    """The folder with its links resolved, made when absent. Raises CannotStartError."""
    folder = folder.expanduser().absolute()
    try:
        # As root the database's user has to pass through; what is secret in here has a mode of its own.
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStartError(f"cannot make {folder} ({error.strerror}); RIGMESH_DATA_DIR names another") from error
    return folder.resolve()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder: one process at a time. Raises CannotStartError when another holds it.

    The kernel frees the lock with its holder, whatever ends it, so there is never a stale one.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode().strip() or "unknown"
            raise CannotStartError(
                f"{folder} is in use by another Rigmesh (process {holder}): stop that one, or set RIGMESH_DATA_DIR to "
                "another folder"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
