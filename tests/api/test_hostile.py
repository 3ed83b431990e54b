"""Nothing that is sent breaks the service: never a 500, always a problem, and the next request is served."""

from __future__ import annotations

import contextlib
import re
import socket
from urllib.parse import urlsplit

import httpx2
import pytest

from api.app import create_app
from api.settings import Settings
from tests.api.helpers import problem_of, tiny
from tests.api.hostile import Hostile, corpus

PATH = "/v1/allocations"
CORPUS = corpus()


@pytest.mark.parametrize("hostile", [pytest.param(hostile, id=hostile.name) for hostile in CORPUS])
def test_the_service_survives(http: httpx2.Client, hostile: Hostile) -> None:
    response = http.post(PATH, content=hostile.body, headers=hostile.headers)
    if hostile.status == 200:
        assert response.status_code == 200, response.text[:500]
    else:
        body = problem_of(response, hostile.status)
        assert body["detail"]
        assert len(response.content) < 200_000
        assert "Traceback" not in response.text
        assert "/api/" not in response.text


#: Whatever takes a body besides the route that the corpus is about.
OTHERS = {
    "PUT": [f"/v1/profiles/{'0' * 64}"],
    "POST": [
        f"/v1/{name}" for name in ("profiles", "frontiers", "explanations", "comparisons", "exports", "lint")
    ],
}


@pytest.mark.long
@pytest.mark.parametrize(("method", "path"), [(method, path) for method in OTHERS for path in OTHERS[method]])
def test_every_other_route_survives_all_of_them(http: httpx2.Client, method: str, path: str) -> None:
    for hostile in CORPUS:
        response = http.request(method, path, content=hostile.body, headers=hostile.headers)
        # What is wrong with the text is wrong everywhere; its content is meant for another route.
        about_content = hostile.status in {200, 422}
        expected = {200, 422} if about_content else {hostile.status}
        assert response.status_code in expected, (hostile.name, response.text[:500])
        if response.status_code != 200:
            problem_of(response, response.status_code)
            assert "Traceback" not in response.text, hostile.name


def test_there_is_no_other_route_that_takes_a_body() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    found = {
        (method.upper(), re.sub("{id}", "0" * 64, path))
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "requestBody" in operation
    }
    assert found == {("POST", PATH)} | {(method, path) for method in OTHERS for path in OTHERS[method]}


def test_afterwards_the_service_is_alive(http: httpx2.Client) -> None:
    assert http.get("/healthz").status_code == 200
    assert http.post(PATH, json={"profile": tiny()}).json()["status"] == "optimal"


_POST = b"POST /v1/allocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
LIES = {
    "fewer bytes than declared": _POST + b"Content-Length: 100\r\n\r\n{}",
    "more bytes than declared": _POST + b'Content-Length: 2\r\n\r\n{}{"profile": 1}',
    "a negative length": _POST + b"Content-Length: -1\r\n\r\n{}",
    "a length in words": _POST + b"Content-Length: two\r\n\r\n{}",
    "a length beyond 64 bits": _POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "two lengths": _POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length and chunks": _POST
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks that are not the last coding": _POST
    + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk that is shorter than it says": _CHUNKED + b"9\r\n{}\r\n0\r\n\r\n",
    "a chunk that is longer than it says": _CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk of negative size": _CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": _CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a chunk of no size": _CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
    "chunks without an end": _CHUNKED + b"2\r\n{}\r\n",
    "a chunk with an endless extension": _CHUNKED + b"2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
    "an endless header": _POST + b"X: " + b"x" * 10_000_000 + b"\r\n\r\n",
    "a million headers": _POST + b"X: y\r\n" * 1_000_000 + b"\r\n",
    "a header that is folded": _POST + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a header with a zero byte": _POST + b"X: \x00\r\nContent-Length: 2\r\n\r\n{}",
    "half a header": _POST[:30],
    "bytes that are not HTTP": bytes(range(256)) * 100,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP 0.9": b"GET /healthz\r\n\r\n",
    "HTTP 9.9": b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "an endless path": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that breaks UTF-8": b"GET /v1/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an upgrade": b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", LIES)
def test_the_service_survives_what_is_not_http(service: str, name: str) -> None:
    address = urlsplit(service)
    with socket.create_connection((address.hostname, address.port), timeout=0.5) as connection:
        answer = b""
        with contextlib.suppress(OSError):  # cut off in the middle of the lie is a fine answer too
            connection.sendall(LIES[name])
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
    for status in re.findall(rb"HTTP/1\.[01] (\d)\d\d", answer):
        assert status in {b"2", b"4"}, answer
    assert b"Traceback" not in answer
    assert httpx2.get(f"{service}/healthz").status_code == 200
