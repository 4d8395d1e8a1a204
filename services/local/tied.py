"""Runs a command that ends with the process that started it: `tied.py PARENT_PID SIGNAL UID GID COMMAND…`.

The kernel sends SIGNAL when the parent is gone, also after kill -9. A program of its own rather than a preexec_fn: that
would run Python in a fork of a process with gRPC's threads. Standard library only: it starts without site-packages.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: becomes the command."""
    parent, signal_number, uid, gid = map(int, sys.argv[1:5])
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user, which clears it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent ended first")
    try:
        os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[5]} as {os.geteuid()}: {error.strerror}")


if __name__ == "__main__":
    main()
