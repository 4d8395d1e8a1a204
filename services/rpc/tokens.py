"""Tokens: `<prefix>_<public id>_<secret>_<crc>`, so that scanners find them and typing errors are seen offline.

The form follows GitHub's token format (prefix and checksum). The secret has 256 random bits, so its SHA-256 needs no
salt and no slow hash.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass

SENSOR, API = "rgms", "rgma"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = re.compile(r"(rgm[sa])_([0-9A-Za-z]{16})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")
# Compared against when there is no such token, so that the answer takes as long.
NO_HASH = hashlib.sha256(b"").digest()


@dataclass(frozen=True)
class Token:
    """A token in its parts. `public_id` finds its row."""

    prefix: str
    public_id: str
    secret: str

    def __str__(self) -> str:
        body = f"{self.prefix}_{self.public_id}_{self.secret}"
        return f"{body}_{_checksum(body)}"

    @property
    def secret_hash(self) -> bytes:
        return hash_secret(self.secret)


def new_token(prefix: str) -> Token:
    """A fresh random token."""
    return Token(prefix, random_text(16), random_text(43))


def parse_token(text: str) -> Token | None:
    """The token that `text` spells, or None when its form or checksum is wrong."""
    match = FORM.fullmatch(text)
    if match is None or _checksum(text.rpartition("_")[0]) != match[4]:
        return None
    return Token(match[1], match[2], match[3])


def random_text(length: int) -> str:
    """Random base62 text: 43 characters hold 256 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def hash_secret(secret: str) -> bytes:
    """SHA-256, as stored."""
    return hashlib.sha256(secret.encode()).digest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits
