"""Logins by address: a burst, then a trickle; what is remembered is bounded."""

from typing import Any

import grpc

from rigmesh.v1.auth_service_pb2 import LoginRequest
from services.auth import throttle
from services.auth.throttle import BURST, REFILL_S, Throttle
from tests.refusals import reason_of


def test_a_burst_then_one_at_a_time() -> None:
    logins = Throttle()
    assert not any(logins.take("a", 100.0) for _ in range(BURST))
    assert logins.take("a", 100.0) == REFILL_S
    assert logins.take("a", 100.0 + REFILL_S / 2) == REFILL_S / 2
    assert logins.take("b", 100.0) == 0
    assert logins.take("a", 100.0 + REFILL_S) == 0
    assert logins.take("a", 100.0 + REFILL_S) == REFILL_S
    assert not any(logins.take("a", 9999.0) for _ in range(BURST))


def test_addresses_are_forgotten_in_the_order_of_their_last_login(monkeypatch: Any) -> None:
    monkeypatch.setattr(throttle, "MAX_ADDRESSES", 2)
    logins = Throttle()
    for _ in range(BURST):
        logins.take("a", 0.0)
    logins.take("b", 0.0)
    assert logins.take("a", 0.0) > 0
    assert logins.take("a", REFILL_S) == 0
    logins.take("c", REFILL_S)
    assert logins.take("a", REFILL_S) > 0


async def test_one_address_cannot_take_the_logins_of_all(person: Any) -> None:
    async def outcome(number: int, address: str) -> Any:
        request = LoginRequest(username=f"absent-{number}", password="x")
        try:
            return await person.auth.Login(request, metadata=(("x-forwarded-for", address),))
        except grpc.aio.AioRpcError as error:
            return error

    reasons = [reason_of(await outcome(number, "203.0.113.7")) for number in range(2 * BURST)]
    assert set(reasons[:BURST]) == {"WRONG_PASSWORD"}
    assert reasons[-1] == "TOO_MANY_LOGINS"
    assert reason_of(await outcome(0, "203.0.113.8")) == "WRONG_PASSWORD"
