"""The operating system's user that PostgreSQL runs as: never root, which PostgreSQL refuses."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from services.local.folder import CannotStartError

# Debian's package brings `postgres`; `nobody` is everywhere.
UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """One user of the machine."""

    name: str
    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can pass through the folder and all above it."""
        if self.uid == os.geteuid():
            return os.access(folder, os.X_OK)
        # Asked as that user: modes alone do not tell, there are access lists and mount options.
        arguments = ["test", "-x", str(folder)]
        probe = subprocess.run(arguments, user=self.uid, group=self.gid, extra_groups=[], cwd="/", check=False)
        return probe.returncode == 0

    def give(self, folder: Path) -> None:
        """Makes this user the owner of the folder."""
        if self.uid != os.geteuid():
            os.chown(folder, self.uid, self.gid)


def caller() -> Account:
    """The user of this process. Raises CannotStartError when the machine does not know it, as PostgreSQL would."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise CannotStartError(
            f"user id {os.geteuid()} has no name on this machine, so PostgreSQL would not start: add it to "
            "/etc/passwd, or set RIGMESH_DATABASE_URL"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def server_account() -> Account:
    """The caller; for root the first of UNPRIVILEGED that exists."""
    if os.geteuid() != 0:
        return caller()
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise CannotStartError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")
