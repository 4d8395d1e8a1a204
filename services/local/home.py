"""Where the cluster's files and its socket lie, and who may reach them."""

import os
import shutil
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
            if not SHARED.exists():
                SHARED.mkdir()
                SHARED.chmod(0o711)  # whatever the umask says: the database's user has to pass through
            entry.symlink_to(tempfile.mkdtemp(dir=SHARED))
    home = entry.resolve()
    account.give(home)
    if not account.can_enter(home):
        raise CannotStartError(
            f"user {account.name}, which runs PostgreSQL, cannot enter {home}: open the folders above it"
        )
    return home


def socket_folder(home: Path, account: Account) -> Path:
    """Where the socket is: `home/socket`; when that path is too long, a short private folder that it links to."""
    folder = home / "socket"
    if len(os.fsencode(folder)) <= SOCKET_FOLDER_BYTES_MAX:
        if folder.is_symlink():  # the data folder has moved
            folder.unlink()
        folder.mkdir(mode=0o700, exist_ok=True)
    elif not _is_private(folder, account):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        folder.unlink(missing_ok=True)
        folder.symlink_to(tempfile.mkdtemp(prefix="rigmesh-", dir="/tmp"))
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
