"""Bytes that no decent client sends."""

import pytest

GET = b"GET /api/v1/nothing HTTP/1.1\r\n"
POST = b"POST /api/v1/auth/login HTTP/1.1\r\n"
HOST = b"Host: rig\r\nConnection: close\r\n"
END = b"\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(GET + HOST + b"X-A: b\0c\r\n" + END, id="NUL in a header"),
        pytest.param(GET + HOST + b"X-A : b\r\n" + END, id="space before the colon"),
        pytest.param(
            POST + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + END,
            id="length and chunked",
        ),
        pytest.param(POST + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", id="two lengths"),
        pytest.param(POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", id="bad chunk"),
        pytest.param(POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n" + END, id="unknown coding"),
        pytest.param(GET + END, id="no host"),
        pytest.param(b"G<T / HTTP/1.1\r\n" + HOST + END, id="bad method"),
        pytest.param(b"\x16\x03\x01\r\n" + END, id="TLS on a plain port"),
        pytest.param(GET + HOST + b"x_user_id: 1\r\n" + END, id="underscore in a header's name"),
        pytest.param(b"GET /api/v1/projects/a%2fb HTTP/1.1\r\n" + HOST + END, id="escaped slash"),
        pytest.param(b"GET /api/v1/projects/a%5cb HTTP/1.1\r\n" + HOST + END, id="escaped backslash"),
        pytest.param(b"GET /api/v1/projects/a%00b HTTP/1.1\r\n" + HOST + END, id="escaped NUL"),
    ],
)
def test_malformed_request_is_refused(raw_status, request_bytes):
    assert raw_status(request_bytes) == 400


def test_http_1_0_is_refused(raw_status):
    assert raw_status(b"GET / HTTP/1.0\r\n" + END) == 426


def test_tunnels_are_refused(raw_status):
    assert raw_status(b"CONNECT rig:443 HTTP/1.1\r\nHost: rig:443\r\n" + END) == 403
    assert raw_status(GET + b"Host: rig\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + END) == 403


@pytest.mark.parametrize(
    "header", [b"X-A: b\r X-User-Id: 1\r\n", b"X-A: b\r\n X-User-Id: 1\r\n"], ids=["bare CR", "folded line"]
)
def test_header_that_hides_another_one_is_harmless(raw_status, header):
    assert raw_status(GET + HOST + header + END) == 404


@pytest.mark.parametrize(
    "path", [b"/api/v1/../../etc/passwd", b"/..%2f..%2fetc/passwd", b"/api/v1/%2e%2e/%2e%2e/etc/passwd"]
)
def test_traversal_leads_nowhere(raw_status, path):
    assert raw_status(b"GET " + path + b" HTTP/1.1\r\n" + HOST + END) in {400, 404}


def test_slashes_are_merged(raw_status):
    assert raw_status(b"GET //api///v1//auth/me HTTP/1.1\r\n" + HOST + END) == 401


def test_headers_must_arrive_in_time(raw_status):
    assert raw_status(GET + b"Host: rig\r\nX-A: ") == 408
