"""Every exception has one place in google.rpc.Status, and none shows the inside."""

import psycopg
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from psycopg_pool import PoolTimeout, TooManyRequests

from services.errors import invalid_field, not_found
from services.rpc.status import to_status, translate

SECRET = 'relation "users" SELECT password'


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (psycopg.OperationalError(SECRET), "UNAVAILABLE", "UNAVAILABLE"),
        (PoolTimeout(SECRET), "UNAVAILABLE", "UNAVAILABLE"),
        (TooManyRequests(SECRET), "UNAVAILABLE", "UNAVAILABLE"),
        (psycopg.errors.QueryCanceled(SECRET), "DEADLINE_EXCEEDED", "TIMEOUT"),
        (TimeoutError(SECRET), "DEADLINE_EXCEEDED", "TIMEOUT"),
        (psycopg.errors.NumericValueOutOfRange(SECRET), "INVALID_ARGUMENT", "INVALID_FIELDS"),
        (psycopg.errors.UniqueViolation(SECRET), "INTERNAL", "INTERNAL"),
        (psycopg.errors.SyntaxError(SECRET), "INTERNAL", "INTERNAL"),
        (KeyError(SECRET), "INTERNAL", "INTERNAL"),
        (not_found("run", "x"), "NOT_FOUND", "NOT_FOUND"),
    ],
)
def test_each_error_has_its_code_and_shows_nothing_else(error: Exception, code: str, reason: str) -> None:
    seen = translate(error)
    assert (seen.code.name, seen.reason) == (code, reason)
    assert SECRET.encode() not in to_status(seen, "id").SerializeToString()


def test_the_details_of_a_status() -> None:
    error = invalid_field("run.name", "is too long")
    error.retry_after_s = 1.5
    status = to_status(error, "the-request")
    details = {kind.__name__: kind() for kind in (ErrorInfo, RequestInfo, BadRequest, RetryInfo)}
    for packed in status.details:
        assert packed.Unpack(details[packed.TypeName().rpartition(".")[2]])
    assert details["ErrorInfo"].domain == "rigmesh"
    assert details["RequestInfo"].request_id == "the-request"
    assert details["BadRequest"].field_violations[0].field == "run.name"
    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 1500
