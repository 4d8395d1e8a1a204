"""What the edge itself answers to REST callers, before any service is asked."""

import json

import pytest

JSON = "application/json"
LOGIN = "/api/v1/auth/login"
BODY = b'{"username": "nobody", "password": "wrong"}'


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "text/plain; application/json",
    ],
)
def test_body_of_another_content_type_is_refused(call, content_type):
    headers = {} if content_type is None else {"content_type": content_type}
    answer = call("POST", LOGIN, BODY, **headers)
    assert (answer.status, answer.reason) == (415, "MALFORMED_REQUEST")


def test_chunked_body_of_another_content_type_is_refused(call):
    answer = call("POST", LOGIN, iter([BODY]), content_type="text/plain")
    assert answer.status == 415


def test_compressed_body_is_refused(call):
    answer = call("POST", LOGIN, BODY, content_type=JSON, content_encoding="gzip")
    assert (answer.status, answer.reason) == (415, "MALFORMED_REQUEST")


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "Application/JSON"])
def test_json_reaches_the_service(call, content_type):
    answer = call("POST", LOGIN, BODY, content_type=content_type)
    assert (answer.status, answer.reason) == (401, "WRONG_PASSWORD")


def test_call_without_a_body_needs_no_content_type(call):
    assert call("POST", "/api/v1/auth/logout").status == 401


def test_body_over_4_mib_is_refused(call):
    answer = call("POST", LOGIN, b" " * 4_300_000, content_type=JSON)
    assert (answer.status, answer.reason) == (413, "LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/v1/nothing"),
        ("PUT", "/api/v1/projects"),
        ("TRACE", "/api/v1/projects"),
        ("OPTIONS", "/api/v1/projects"),
        ("POST", "/api/openapi.json"),
        ("POST", "/rigmesh.v1.AuthService/GetMe"),
    ],
)
def test_unknown_path_or_method_is_not_found_as_json(call, method, path):
    answer = call(method, path)
    assert (answer.status, answer.reason) == (404, "NOT_FOUND")
    assert answer.headers["content-type"] == JSON


def test_unknown_query_parameter_is_named(call):
    answer = call("GET", "/api/v1/projects?colour=red")
    assert (answer.status, answer.reason) == (400, "MALFORMED_REQUEST")
    assert json.loads(answer.body)["message"] == 'Could not find field "colour".'


@pytest.mark.parametrize("body", [b"{", b'{"username": 1} 2', b'"text"', b'{"username": "\xff"}', b'{"username": NaN}'])
def test_bad_json_is_refused_without_naming_types(call, body):
    answer = call("POST", LOGIN, body, content_type=JSON)
    assert (answer.status, answer.reason) == (400, "MALFORMED_REQUEST")
    assert b"rigmesh.v1" not in answer.body


def test_too_many_or_too_large_headers(call):
    many = {f"x-h{number}": "1" for number in range(150)}
    for headers in (many, {"x-large": "a" * 40_000}):
        answer = call("GET", "/api/v1/projects", **headers)
        assert (answer.status, answer.reason) == (431, "LIMIT_EXCEEDED")


def test_answers_say_how_to_treat_them(call):
    for answer in (call("GET", "/api/v1/nothing"), call("GET", "/api/v1/projects")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["server"] == "rigmesh"
        assert not [name for name in answer.headers if name.startswith("x-envoy")]


def test_request_id_is_given_back(call):
    assert call("GET", "/api/v1/projects", x_request_id="bench-7.1").headers["x-request-id"] == "bench-7.1"
    assert len(call("GET", "/api/v1/projects").headers["x-request-id"]) == 36


def test_request_id_of_an_odd_form_is_replaced(call):
    for odd in ('a"b', "a b", "a" * 65):
        assert call("GET", "/api/v1/projects", x_request_id=odd).headers.get("x-request-id") != odd


def test_openapi_document_is_served(call):
    answer = call("GET", "/api/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == JSON
    assert json.loads(answer.body)["openapi"] == "3.1.0"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
def test_foreign_origin_may_not_change_anything(call, origin):
    answer = call("POST", LOGIN, BODY, content_type=JSON, origin=origin)
    assert (answer.status, answer.reason) == (403, "CSRF_TOKEN_INVALID")


def test_own_origin_may(call, edge):
    assert call("POST", LOGIN, BODY, content_type=JSON, origin=f"http://{edge}").status == 401


def test_foreign_origin_gets_no_leave_from_preflight(call):
    answer = call("OPTIONS", LOGIN, origin="https://evil.example", access_control_request_method="POST")
    assert "access-control-allow-origin" not in answer.headers
