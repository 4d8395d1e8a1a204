"""What an operator does with access to the database alone: the given one, or the embedded one, running or not."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg_pool import PoolTimeout

from services.db.migrate import MigrationError, migrate
from services.instance_key import InstanceKeyError
from services.listing import PASSWORD
from services.local.cluster import existing
from services.local.folder import CannotStartError
from services.settings import Settings
from services.users.seed import reset_password

PASSWORD_BYTES = 18


class NoSuchUserError(Exception):
    """There is no user of that name."""


# Told in one line: the operator can do something about them. Anything else is a defect, and keeps its traceback.
EXPECTED = (
    CannotStartError,
    InstanceKeyError,
    MigrationError,
    NoSuchUserError,
    PoolTimeout,
    psycopg.Error,
    OSError,
)


def explain(error: Exception) -> str:
    """The text to show, without a URL's password. Only our own may have several lines: a log's end belongs there."""
    text = PASSWORD.sub(r"\1:***@", str(error).strip()) or type(error).__name__
    return " ".join(text.split()) if isinstance(error, psycopg.Error) else text


async def migrate_database(settings: Settings) -> list[str]:
    """Applies the missing migrations and returns their names."""
    async with _database(settings) as (owner_url, application_url):
        return await migrate(owner_url, application_url)


async def new_password(settings: Settings, username: str) -> str:
    """Sets a random password and returns it; the user's sessions end. Raises NoSuchUserError."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    async with (
        _database(settings) as (_, url),
        await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection,
    ):
        if not await reset_password(connection, username, password):
            raise NoSuchUserError(f"there is no user {username!r}")
    return password


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[tuple[str, str]]:
    """The URLs of its owner and of the application."""
    if settings.database_url:
        yield settings.owner_url, settings.database_url
        return
    async with existing(settings.data_dir) as url:
        yield url, url
