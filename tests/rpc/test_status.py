"""Every exception has one place in google.rpc.Status, and none shows the inside."""

import base64
from urllib.parse import quote

import psycopg
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from psycopg_pool import PoolTimeout, TooManyRequests

from rigmesh.v1.error_reason_pb2 import INVALID_FIELDS
from services.errors import InvalidArgument, invalid_field, not_found
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


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_whatever_an_error_says_fits_into_trailing_headers(letter: str) -> None:
    """Of 8 KiB: the text percent-encoded, the details in base64."""
    long = letter * 20_000
    error = InvalidArgument(
        INVALID_FIELDS,
        long,
        fields={f"{n}{long}": long for n in range(99)},
        metadata={f"{n}{long}": long for n in "ab"},
    )
    status = to_status(error, "x" * 64)
    size = len(quote(status.message, safe="")) + len(base64.b64encode(status.SerializeToString()))
    assert size < 8 * 1024 - 200
    assert status.message.startswith(letter * 100)


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
