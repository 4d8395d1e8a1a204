"""Small files that must be whole and still there after a power cut."""

import os
import tempfile
from pathlib import Path


def write_private(file: Path, content: bytes) -> None:
    """Replaces the file as a whole; only its owner may read it."""
    new = _private_copy(file, content)
    new.replace(file)
    sync_folder(file.parent)


def create_private(file: Path, content: bytes) -> None:
    """Writes the file unless it is there: of several processes at once, one wins. Only its owner may read it."""
    new = _private_copy(file, content)
    try:
        file.hardlink_to(new)  # unlike a rename it never replaces what is there
        sync_folder(file.parent)
    except FileExistsError:
        return
    finally:
        new.unlink()


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable; syncing a file does not do that for its own name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private_copy(file: Path, content: bytes) -> Path:
    descriptor, new = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")  # mode 0600
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    return Path(new)
