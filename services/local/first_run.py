"""The first user, made on the first run."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import psycopg

from services.files import write_private
from services.users.seed import ADMIN, ensure_admin

PASSWORD_BYTES = 18


async def seed_admin(owner_url: str, folder: Path, report: Callable[[str], None]) -> None:
    """Makes the user `admin` in a database without users, and leaves the password in `folder`."""
    credentials, password = folder / "admin-credentials.json", secrets.token_urlsafe(PASSWORD_BYTES)
    async with await psycopg.AsyncConnection.connect(owner_url, connect_timeout=10) as connection:
        if not await ensure_admin(connection, password):
            return
        # Before the COMMIT: after a crash in between, the next run makes another password, and no one is locked out.
        write_private(credentials, json.dumps({"username": ADMIN, "password": password}).encode() + b"\n")
    report(f"first run: sign in as {ADMIN} with the password {password} (kept in {credentials})")
