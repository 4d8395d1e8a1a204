"""Whom a limit by address counts."""

import pytest

from services.rpc.address import caller_address


@pytest.mark.parametrize(
    ("forwarded", "peer", "expected"),
    [
        ("", "ipv4:192.0.2.1:5555", "192.0.2.1"),
        ("", "ipv6:%5B2001:db8:1:2:3::4%5D:5555", "2001:db8:1:2::/64"),
        ("", "unix:/run/s", "unix:/run/s"),
        ("198.51.100.7", "ipv4:127.0.0.1:5555", "198.51.100.7"),
        ("1.1.1.1, 198.51.100.7", "ipv4:127.0.0.1:5555", "198.51.100.7"),
        ("2001:db8:1:2:ffff::1", "ipv4:127.0.0.1:5555", "2001:db8:1:2::/64"),
        ("x" * 9999, "ipv4:127.0.0.1:5555", "x" * 64),
    ],
)
def test_the_address_behind_a_call(forwarded: str, peer: str, expected: str) -> None:
    assert caller_address({"x-forwarded-for": forwarded} if forwarded else {}, peer) == expected
