"""Passwords as argon2id hashes: here and nowhere else."""

import functools
import secrets

import argon2

_hasher = argon2.PasswordHasher()


def hash_password(password: str) -> str:
    """The hash to store. Takes about 50 ms and 64 MiB on purpose: call it in a thread."""
    return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Whether `stored` was made of this password. None, for a user who does not exist, takes as long and is False."""
    absent = _hash_of_nobody()
    try:
        return _hasher.verify(stored or absent, password) and stored is not None
    except argon2.exceptions.VerifyMismatchError:
        return False


def is_outdated(stored: str) -> bool:
    """True when a hash was made with other parameters than today's, so that the next login should replace it."""
    return _hasher.check_needs_rehash(stored)


@functools.cache
def _hash_of_nobody() -> str:
    return _hasher.hash(secrets.token_hex())
