from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.instance_key import InstanceKeyError, derive, load_or_create


def test_made_once_and_private(tmp_path: Path) -> None:
    """The first call makes it, later ones read it; only its owner may."""
    file = tmp_path / "new" / "instance.key"
    key = load_or_create(file)
    assert len(key) == 32
    assert load_or_create(file) == key
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_all_that_start_at_once_get_the_same(tmp_path: Path) -> None:
    """Replicas share the folder."""
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(load_or_create, [tmp_path / "instance.key"] * 64))) == 1


def test_a_damaged_key_is_never_replaced(tmp_path: Path) -> None:
    """A new one would make every stored secret unreadable."""
    file = tmp_path / "instance.key"
    file.write_bytes(b"short")
    with pytest.raises(InstanceKeyError, match="has 5 bytes"):
        load_or_create(file)
    assert file.read_bytes() == b"short"


def test_purposes_have_keys_of_their_own() -> None:
    """HKDF-SHA256 without salt: checked against a value computed with the openssl command."""
    assert derive(bytes(32), "csrf").hex() == "20833ad755e0dc0987b03eb9e83b5a7ecab8c1e22c01bef749e461d0d588ad1d"
    assert derive(bytes(32), "page-token") != derive(bytes(32), "csrf")
