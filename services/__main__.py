"""The `rigmesh` command.

Commands import what they need themselves: `rigmesh settings` should not wait for gRPC to load.
"""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from services.listing import describe
from services.settings import ROLES, Settings

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help="Rigmesh's servers."
)
admin = typer.Typer(no_args_is_help=True, help="What an operator does with access to the database alone.")
app.add_typer(admin, name="admin")

T = TypeVar("T")


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 it could not be done, 2 wrong usage or settings."""
    app()


@app.command()
def up() -> None:
    """Run the whole of Rigmesh on this machine, until Ctrl-C.

    \b
    Example:
      RIGMESH_HTTP_PORT=9000 rigmesh up
    """
    from services.local.up import up as run

    _run(run(_settings(), _say))


@app.command()
def serve(role: Annotated[str, typer.Argument(metavar="|".join(ROLES), help="What this process does.")]) -> None:
    """Run one role, until SIGTERM or Ctrl-C.

    \b
    Example:
      RIGMESH_DATABASE_URL=postgresql://rigmesh@db/rigmesh rigmesh serve telemetry
    """
    if role not in ROLES:
        raise typer.BadParameter(f"{role!r} is none of {', '.join(ROLES)}", param_hint="ROLE")
    from services.app import ServeError
    from services.app import serve as run

    _run(run(role, _settings()), ServeError)


@app.command()
def migrate() -> None:
    """Bring the database to this release's schema. Safe to repeat, and on several machines at once.

    \b
    Example:
      RIGMESH_DATABASE_URL=postgresql://owner@db/rigmesh rigmesh migrate
    """
    from services.local.operate import migrate_database

    applied = _run(migrate_database(_settings()))
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


@app.command()
def settings(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False) -> None:
    """Show every setting: variable, value, meaning. Passwords in URLs are hidden.

    \b
    Example:
      rigmesh settings --json
    """
    described = describe(_settings())
    if as_json:
        typer.echo(json.dumps(described, indent=2))
    else:
        typer.echo("\n".join(f"{entry['name']}={entry['value']}\n    {entry['meaning']}" for entry in described))


@admin.callback()
def _admin() -> None:
    # Keeps `admin` a group of commands while it has one only.
    pass


@admin.command("reset-password")
def reset_password(username: Annotated[str, typer.Argument(help="Whose password.")]) -> None:
    """Give a user a new random password, print it, and end the user's sessions.

    \b
    Example:
      rigmesh admin reset-password admin
    """
    from services.local.operate import new_password

    password = _run(new_password(_settings(), username))
    typer.echo(password)


def _say(text: str) -> None:
    # Whoever read the output may be gone (`rigmesh up | head`): no reason to stop looking after the processes.
    with contextlib.suppress(OSError):
        typer.echo(f"rigmesh: {text}")


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(["RIGMESH", *map(str, problem["loc"])]).upper()
            typer.echo(f"error: {name}: {problem['msg']} (is: {problem['input']!r})", err=True)
        raise typer.Exit(2) from None


def _run(coroutine: Coroutine[Any, Any, T], *expected: type[Exception]) -> T:
    """Runs it; what an operator can mend becomes one line instead of a traceback."""
    from services.local.operate import EXPECTED, explain

    told: tuple[type[Exception], ...] = (*EXPECTED, *expected)
    try:
        return asyncio.run(coroutine)
    except told as error:
        typer.echo(f"error: {explain(error)}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    main()
