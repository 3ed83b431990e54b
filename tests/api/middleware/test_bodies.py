"""Bodies that are too large, too slow, packed or cut off."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest

from api.app import create_app
from api.settings import Settings
from tests.api.helpers import problem_of, serving, tiny
from tests.api.replicas import eventually

PATH = "/v1/allocations"
LIMIT = 2000
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def small() -> Iterator[httpx2.Client]:
    """A service that takes 2000 bytes."""
    with (
        serving(create_app(Settings(max_body_bytes=LIMIT, workers=1))) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def full() -> Iterator[str]:
    """A service that has memory for 3000 bytes of bodies."""
    with serving(create_app(Settings(max_waiting_bytes=3000, max_body_bytes=3000, workers=1))) as url:
        yield url


def _body(size: int) -> bytes:
    empty = len(json.dumps({"profile": tiny(model="")}))
    content = json.dumps({"profile": tiny(model="m" * (size - empty))}).encode()
    assert len(content) == size
    return content


def _chunks(content: bytes) -> Iterator[bytes]:
    # An iterator has no length, so httpx2 sends it chunked and without Content-Length.
    for start in range(0, len(content), 700):
        yield content[start : start + 700]


def _refused(response: httpx2.Response) -> None:
    body = problem_of(response, 413)
    assert body["type"] == "urn:bitalloc:problem:body-too-large"
    assert body["detail"] == f"the body is larger than the limit of {LIMIT} bytes"


def test_a_body_of_exactly_the_limit_is_taken(small: httpx2.Client) -> None:
    assert small.post(PATH, content=_body(LIMIT), headers=JSON).status_code == 200


def test_a_chunked_body_of_exactly_the_limit_is_taken(small: httpx2.Client) -> None:
    response = small.post(PATH, content=_chunks(_body(LIMIT)), headers=JSON)
    assert "content-length" not in response.request.headers
    assert response.status_code == 200


def test_a_body_that_declares_one_byte_more_is_refused(small: httpx2.Client) -> None:
    _refused(small.post(PATH, content=_body(LIMIT + 1), headers=JSON))


@pytest.mark.parametrize("size", [LIMIT + 1, 10 * LIMIT, 1000 * LIMIT])
def test_a_chunked_body_over_the_limit_is_refused(small: httpx2.Client, size: int) -> None:
    _refused(small.post(PATH, content=_chunks(_body(size)), headers=JSON))


def test_after_a_refusal_the_next_request_is_served(small: httpx2.Client) -> None:
    for size in (LIMIT + 1, 1000 * LIMIT):
        assert small.post(PATH, content=_body(size), headers=JSON).status_code == 413
        assert small.post(PATH, content=_chunks(_body(size)), headers=JSON).is_client_error
        assert small.post(PATH, content=_body(1000), headers=JSON).status_code == 200


PACKED = JSON | {"content-encoding": "gzip"}


def test_a_gzip_body_is_unpacked(small: httpx2.Client) -> None:
    response = small.post(PATH, content=gzip.compress(_body(LIMIT)), headers=PACKED)
    assert response.status_code == 200, response.text


def test_a_gzip_body_in_chunks_and_members_is_unpacked(small: httpx2.Client) -> None:
    body = _body(1500)
    packed = gzip.compress(body[:700]) + gzip.compress(body[700:])
    response = small.post(
        PATH, content=(packed[at : at + 10] for at in range(0, len(packed), 10)), headers=PACKED
    )
    assert response.status_code == 200, response.text


def test_the_limit_counts_what_a_gzip_body_unpacks_to(small: httpx2.Client) -> None:
    _refused(small.post(PATH, content=gzip.compress(_body(LIMIT + 1)), headers=PACKED))


def test_a_gzip_bomb_is_refused_before_it_is_large(http: httpx2.Client) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(2**8)) + packer.flush()  # 256 MiB in 256 kB
    began = time.perf_counter()
    problem_of(http.post(PATH, content=bomb, headers=PACKED), 413)
    assert time.perf_counter() - began < 20


BROKEN_GZIP = {
    "plain JSON": (b"{}" * 20, "is not gzip"),
    "zlib": (zlib.compress(b"{}"), "is not gzip"),
    "cut off": (gzip.compress(b"{}" * 99)[:-5], "is cut off"),
    "a wrong checksum": (gzip.compress(b"{}")[:-8] + bytes(8), "is not gzip"),
    "bytes after the end": (gzip.compress(b"{}") + b"more", "is not gzip"),
    "a thousand empty members": (gzip.compress(b"") * 1001, "more than 1000 gzip members"),
}


@pytest.mark.parametrize("name", BROKEN_GZIP)
def test_a_broken_gzip_body_is_told_what_is_wrong(http: httpx2.Client, name: str) -> None:
    content, words = BROKEN_GZIP[name]
    body = problem_of(http.post(PATH, content=content, headers=PACKED), 400)
    assert body["type"] == "urn:bitalloc:problem:invalid-gzip"
    assert words in body["detail"]


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_coding_is_refused_with_the_one_that_is_known(http: httpx2.Client, coding: str) -> None:
    response = http.post(PATH, content=b"{}", headers=JSON | {"content-encoding": coding})
    assert f"expected Content-Encoding gzip or none, got '{coding}'" in problem_of(response, 415)["detail"]
    assert response.headers["accept-encoding"] == "gzip"


def test_an_upload_that_takes_too_long_is_ended() -> None:
    with serving(create_app(Settings(upload_timeout_s=0.3, workers=1))) as url, _raw(url) as connection:
        connection.sendall(b"POST /v1/allocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.3 s" in answer


def test_slow_uploads_hold_nobody_up(service: str, http: httpx2.Client) -> None:
    # More of them than there are threads or workers.
    slow = [_raw(service) for _ in range(60)]
    for connection in slow:
        connection.sendall(
            b"POST /v1/allocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{"
        )
    assert http.post(PATH, json={"profile": tiny()}).status_code == 200
    for connection in slow:
        connection.close()


def test_a_client_that_goes_away_in_its_upload_leaves_nothing_behind(full: str) -> None:
    for _ in range(5):
        with _raw(full) as connection:
            connection.sendall(
                b"POST /v1/allocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n"
                + bytes(2500)
            )
    with httpx2.Client(base_url=full, timeout=60) as client:
        response = eventually(
            lambda: (one := client.post(PATH, content=_body(2900), headers=JSON)).status_code != 503 and one
        )
    assert response.status_code == 200


def test_bodies_that_wait_are_counted_together(full: str) -> None:
    with _raw(full) as connection:
        connection.sendall(
            b"POST /v1/allocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n" + bytes(2000)
        )
        time.sleep(0.2)
        response = httpx2.post(full + PATH, content=_body(2000), headers=JSON, timeout=60)
        assert problem_of(response, 503)["type"] == "urn:bitalloc:problem:busy"
        assert response.headers["retry-after"] == "1"


def test_many_bodies_at_once_are_all_answered(service: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        codes = list(
            pool.map(
                lambda _: httpx2.post(service + PATH, json={"profile": tiny()}, timeout=60).status_code,
                range(60),
            )
        )
    assert codes == [200] * 60


def _raw(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=10)
