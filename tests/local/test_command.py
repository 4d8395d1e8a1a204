import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def rigmesh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


@pytest.mark.parametrize("command", ["up", "serve", "migrate", "settings", "admin reset-password"])
def test_every_command_shows_an_example(command: str) -> None:
    """On a line of its own, to be copied."""
    done = rigmesh(*command.split(), "--help")
    assert done.returncode == 0
    assert f"rigmesh {command}" in done.stdout.partition("Example:\n")[2].splitlines()[0]


def test_wrong_settings_are_named() -> None:
    """All of them at once, by the variable to change; exit code 2."""
    done = rigmesh("migrate", RIGMESH_HTTP_PORT="99999", RIGMESH_BIND="nowhere")
    assert done.returncode == 2
    first, second = sorted(done.stderr.splitlines())
    assert first.startswith("error: RIGMESH_BIND: ")
    assert second.startswith("error: RIGMESH_HTTP_PORT: ")


def test_settings_hide_passwords() -> None:
    """In both forms that a connection string may have."""
    for url in (
        "postgresql://u:hidden@h/db",
        "host=h user=u password=hidden dbname=db",
        "postgresql://h?password=hidden",
    ):
        done = rigmesh("settings", "--json", RIGMESH_DATABASE_URL=url)
        assert "hidden" not in done.stdout
        listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
        assert "***" in listed["RIGMESH_DATABASE_URL"]["value"]
        assert listed["RIGMESH_HTTP_PORT"]["default"] == "8080"


def test_a_database_that_is_away_is_one_line() -> None:
    """No traceback; exit code 1."""
    done = rigmesh("migrate", RIGMESH_DATABASE_URL="postgresql://u:hidden@127.0.0.1:1/db")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Connection refused" in done.stderr
    assert "hidden" not in done.stderr


def test_no_embedded_database_yet(tmp_path: Path) -> None:
    """The text tells how to get one, and no folder is made by asking."""
    done = rigmesh("admin", "reset-password", "admin", RIGMESH_DATA_DIR=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "rigmesh up" in done.stderr
    assert not (tmp_path / "none").exists()
