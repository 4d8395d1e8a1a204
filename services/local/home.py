"""Where the cluster's files and its socket lie, and who may reach them."""

import os
import tempfile
from pathlib import Path

from services.local.account import Account
from services.local.folder import CannotStartError

# For root, when the database's user cannot enter the data folder (a checkout under /root, say).
SHARED = Path("/var/lib/rigmesh")
# A socket's path has at most 107 bytes; PostgreSQL adds /.s.PGSQL.5432
SOCKET_FOLDER_BYTES_MAX = 107 - len("/.s.PGSQL.5432")


def make_home(folder: Path, account: Account) -> Path:
    """The cluster's folder, private to `account`: DATA_DIR/postgres, or where that link points to."""
    entry = folder / "postgres"
    if entry.is_symlink() and not entry.exists():
        raise CannotStartError(
            f"{entry} points to {entry.readlink()}, which is not there: bring the database back, or remove the link to "
            "begin with an empty one"
        )
    if not entry.exists():
        if account.can_enter(folder):
            entry.mkdir(mode=0o700)
        else:
            SHARED.mkdir(mode=0o711, parents=True, exist_ok=True)
            entry.symlink_to(tempfile.mkdtemp(dir=SHARED))
    home = entry.resolve()
    account.give(home)
    if not account.can_enter(home):
        raise CannotStartError(
            f"user {account.name}, which runs PostgreSQL, cannot enter {home}: open the folders above it"
        )
    return home


def socket_folder(home: Path, account: Account) -> Path:
    """Where the socket is: below `home`; when that path is too long, in a short private folder that `home/socket` names."""
    folder = home / "socket"
    if len(os.fsencode(folder)) <= SOCKET_FOLDER_BYTES_MAX:
        folder.mkdir(mode=0o700, exist_ok=True)
    elif not _is_private(folder, account):
        folder.unlink(missing_ok=True)
        parent = "/run" if os.geteuid() == 0 else "/tmp"  # noqa: S108 mkdtemp makes a private one in it
        folder.symlink_to(tempfile.mkdtemp(prefix="rigmesh-", dir=parent))
    real = folder.resolve()
    account.give(real)
    return real


def _is_private(link: Path, account: Account) -> bool:
    # /tmp is cleaned now and then, and a name that has become free there may be anybody's.
    try:
        status = link.readlink().lstat()
    except OSError:
        return False
    return status.st_uid == account.uid and status.st_mode == 0o40700
