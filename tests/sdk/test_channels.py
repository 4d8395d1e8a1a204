import pytest

from rigmesh_client.channels import MAX_ALIASES, Channel, ChannelTable

SENSOR = "0198c0de-0000-7000-8000-000000000001"


def test_columns_go_by_alias() -> None:
    table = ChannelTable([Channel("ax", "g", 20_000_000), Channel("ay", sensor_id=SENSOR)])
    assert [(b.alias, b.signal, b.unit, b.period_ns, b.sensor_id) for b in table.bindings] == [
        (1, "ax", "g", 20_000_000, ""),
        (2, "ay", "", 0, SENSOR),
    ]
    columns = table.columns({f"{SENSOR}/ay": [2.0], "ax": [1.0]})
    assert {alias: column.tolist() for alias, column in columns.items()} == {2: [2.0], 1: [1.0]}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [({}, "no values"), ({"az": [1]}, "no such channel: az; bound are ax, ay"), ({"ax": [1], "ay": [1, 2]}, "length")],
)
def test_columns_that_do_not_fit_are_refused(values: dict[str, list[int]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ChannelTable([Channel("ax"), Channel("ay")]).columns(values)


def test_a_name_is_bound_once() -> None:
    table = ChannelTable([Channel("ax")])
    with pytest.raises(ValueError, match="again: ax, ay"):
        table.add([Channel("ay"), Channel("ax"), Channel("ay")])
    assert len(table.bindings) == 1


def test_aliases_are_limited() -> None:
    table = ChannelTable([Channel(f"s{n}") for n in range(MAX_ALIASES)])
    with pytest.raises(ValueError, match="at most 1024"):
        table.add([Channel("one_more")])
