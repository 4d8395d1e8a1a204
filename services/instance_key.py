"""The instance key: 32 random bytes that all processes of an installation share, and the keys derived from it."""

import os
import secrets
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


class InstanceKeyError(Exception):
    """The key file holds something else; the text says what to do."""


def load_or_create(path: Path) -> bytes:
    """The key in `path`, made on first use (mode 0600). Of several processes that make it at once, one wins for all.

    Raises InstanceKeyError when the file is not 32 bytes long: a new key would make tokens and secrets unreadable.
    """
    if not path.exists():
        _create(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise InstanceKeyError(
            f"{path} has {len(key)} bytes, an instance key has {KEY_BYTES}: restore it from a backup, or point "
            "RIGMESH_INSTANCE_KEY_FILE to the right file"
        )
    return key


def derive(key: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose (HKDF-SHA256), so that no two uses share a key."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(key)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        # A link never replaces a file that is there, and the whole key appears at once.
        path.hardlink_to(new)
        _sync(path.parent)
    except FileExistsError:
        return  # another process was first
    finally:
        Path(new).unlink()


def _sync(folder: Path) -> None:
    # Without it a power cut could take the file's name back after secrets were encrypted with the key.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
