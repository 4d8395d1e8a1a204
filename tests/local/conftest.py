import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder that the database's user can enter: under root, pytest's own tmp_path is closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="rigmesh-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
