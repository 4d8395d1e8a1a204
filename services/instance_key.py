"""The instance key: 32 random bytes that all processes of an installation share, and the keys derived from it."""

import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.files import create_private

KEY_BYTES = 32


class InstanceKeyError(Exception):
    """The key file holds something else; the text says what to do."""


def load_or_create(path: Path) -> bytes:
    """The key in `path`, made on first use (mode 0600). Of several processes that make it at once, one wins for all.

    Raises InstanceKeyError when the file is not 32 bytes long: a new key would make tokens and secrets unreadable.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        create_private(path, secrets.token_bytes(KEY_BYTES))
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
