from pathlib import Path

import pytest
from pydantic import ValidationError

from services.settings import Settings


def test_half_of_a_tls_pair_is_refused() -> None:
    with pytest.raises(ValidationError, match="belong together"):
        Settings(tls_cert=Path("cert.pem"))


@pytest.mark.parametrize("values", [{"bind": "localhost"}, {"http_port": 0}, {"http_port": 65536}, {"pool_size": 1}])
def test_a_value_out_of_range_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


def test_lists_are_read_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGMESH_CONTROL_UPSTREAMS", "one:1, two:2,")
    assert Settings().control_upstreams == ("one:1", "two:2")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGMESH_DATA_DIR", "")
    assert Settings().data_dir == Path(".rigmesh")
