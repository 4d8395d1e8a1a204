"""The cluster's configuration files, written anew at every start: a data folder may move to another machine or user.

A user's own settings go into postgresql.conf below the line that includes ours, or through ALTER SYSTEM; both win.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from services.local.account import caller
from services.local.folder import CannotStartError
from services.local.tuning import this_machine, tuned

# Nothing of the caller's: PGDATA, PGHOST or a locale that is not installed would reach the server.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
INITDB = (
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--data-checksums",
    "--auth-local=peer",
    "--auth-host=reject",
    "--no-instructions",
)
INCLUDE = "include = 'rigmesh.conf'  # written anew at every start; what stands below it wins\n"


def write(data: Path, socket: Path, programs: Path, settings: Mapping[str, str]) -> None:
    """Writes rigmesh.conf, pg_hba.conf and pg_ident.conf. Raises CannotStartError when TimescaleDB is missing."""
    fixed = {
        "listen_addresses": "",
        "unix_socket_directories": str(socket),
        "unix_socket_permissions": "0700",
        "shared_preload_libraries": ",".join(_preloaded(programs)),
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "cluster_name": "rigmesh",
    }
    everything = tuned(this_machine(data)) | fixed | dict(settings)
    _write(data / "rigmesh.conf", "".join(f"{name} = {_quoted(value)}\n" for name, value in everything.items()))
    _write(data / "pg_hba.conf", "local all all peer map=rigmesh\n")
    users = sorted({caller().name, "root"})
    _write(
        data / "pg_ident.conf",
        "".join(f'rigmesh "{user}" {role}\n' for user in users for role in ("rigmesh", "postgres")),
    )
    main = data / "postgresql.conf"
    if INCLUDE not in (text := main.read_text()):
        main.write_text(text + INCLUDE)


def _preloaded(programs: Path) -> list[str]:
    found = subprocess.run([programs / "pg_config", "--pkglibdir"], capture_output=True, text=True, check=True)
    libraries = Path(found.stdout.strip())
    if not (libraries / "timescaledb.so").exists():
        raise CannotStartError(f"no TimescaleDB in {libraries}: run ./scripts/setup, or set RIGMESH_DATABASE_URL")
    return [name for name in ("timescaledb", "pg_stat_statements") if (libraries / f"{name}.so").exists()]


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o644)  # root writes, the database's user reads; the folder is private
