"""What comes before a request costs little, holds nobody up, and ends: against a real server process."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from api.problems.problem import MEDIA_TYPE
from tests.api.helpers import random_profile

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
TIMEOUT_S = 1.0
MOST = 20


@contextmanager
def served(folder: Path, before: str = "", **settings: object) -> Iterator[str]:
    """A service of its own with other limits; its log is in the folder."""
    environment = os.environ | {
        "BITALLOC_DATA_DIR": str(folder),
        "BITALLOC_WORKERS": "1",
        **{f"BITALLOC_{name.upper()}": str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-c", f"{before}\nfrom api.cli import main; main()", "serve", "--port", "0"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[2]
            while httpx2.get(f"{url}/readyz").status_code != 200:
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that is soon at its limits."""
    folder = tmp_path_factory.mktemp("strict")
    with served(folder, header_timeout_s=TIMEOUT_S, upload_timeout_s=3, max_connections=MOST) as url:
        yield url


def connected(url: str, timeout_s: float = 10.0) -> socket.socket:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=timeout_s)


def whole_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Everything until the end of the connection: status, headers, body. No status where nothing came."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]) if first else 0, headers, body


def refused(connection: socket.socket, status: int, kind: str) -> dict[str, str]:
    """The headers of a refusal, which has to be a problem of that kind, after which the connection is over."""
    got, headers, body = whole_answer(connection)
    assert got == status
    assert headers["content-type"] == MEDIA_TYPE
    assert headers["connection"] == "close"
    problem = json.loads(body)
    assert problem["type"] == f"urn:bitalloc:problem:{kind}"
    assert problem["status"] == status
    assert problem["request_id"] == headers["x-request-id"]
    return headers


def answered_s(url: str) -> float:
    began = time.monotonic()
    assert httpx2.get(f"{url}/healthz", timeout=30).status_code == 200
    return time.monotonic() - began


def many_headers(size_bytes: int) -> bytes:
    return b"X: 12345\r\n" * (size_bytes // 10 + 1)


TOO_LARGE = {
    "one header": HEAD + b"X: " + b"x" * 2**15 + b"\r\n\r\n",
    "one header without an end": HEAD + b"X: " + b"x" * 2**16,
    "a name": HEAD + b"x" * 2**15 + b": 1\r\n\r\n",
    "many headers": HEAD + many_headers(2**15) + b"\r\n",
    "an address": b"GET /" + b"a" * 2**15 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a query": b"GET /v1/jobs?limit=" + b"1" * 2**15 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "trailers": b"POST /v1/lint HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
    + b"x" * 2**19,
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_head_that_is_too_large_is_refused(strict: str, name: str) -> None:
    with connected(strict) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(TOO_LARGE[name])
        if name == "trailers":  # the request may be answered before its end is here
            assert whole_answer(connection)[0] in {0, 415, 431}
        else:
            refused(connection, 431, "headers-too-large")


@pytest.mark.parametrize("more", [b"X: " + b"x" * 30_000 + b"\r\n", many_headers(30_000)])
def test_a_head_of_just_under_the_limit_is_served(strict: str, more: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(HEAD + more + b"Connection: close\r\n\r\n")
        assert whole_answer(connection)[0] == 200


def test_the_limit_is_for_each_head_and_not_for_bodies(strict: str) -> None:
    with httpx2.Client(base_url=strict) as client:
        for _ in range(3):
            assert client.get("/healthz", headers={"x": "x" * 20_000}).status_code == 200
        assert client.post("/v1/profiles", json=random_profile(5_000)).status_code in {200, 201}


def test_an_endless_header_stalls_nobody(service: str) -> None:
    sent = threading.Event()

    def flood() -> None:
        with connected(service) as connection, contextlib.suppress(OSError):
            connection.sendall(HEAD + b"X: ")
            for _ in range(96):
                connection.sendall(b"x" * 2**20)
        sent.set()

    thread = threading.Thread(target=flood)
    thread.start()
    slowest_s = 0.0
    while not sent.is_set():
        slowest_s = max(slowest_s, answered_s(service))
    thread.join()
    assert slowest_s < 2.0


@pytest.mark.parametrize("start", [b"", b"GET", HEAD, HEAD + b"X: y"])
def test_a_head_that_does_not_arrive_ends_the_connection(strict: str, start: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(start)
        began = time.monotonic()
        if start:
            refused(connection, 408, "headers-too-slow")
        else:
            assert whole_answer(connection)[0] == 0
        assert time.monotonic() - began < TIMEOUT_S + 2


DRIPS: dict[str, tuple[bytes, bytes]] = {
    "a header": (HEAD + b"X: ", b"x"),
    "headers": (HEAD, b"X: y\r\n"),
    "line breaks": (b"", b"\r\n"),
    "the next request": (HEAD + b"\r\nGET /", b"a"),
    "line breaks after an answer": (HEAD + b"\r\n", b"\r\n"),
    "a body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "a body that nobody reads": (HEAD + b"Content-Length: 100000000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_drop_by_drop_is_not_fast_enough(strict: str, name: str) -> None:
    start, drop = DRIPS[name]
    began = time.monotonic()
    with connected(strict) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(start)
        connection.settimeout(0.2)
        while True:
            connection.sendall(drop)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536):
                    break
            assert time.monotonic() - began < TIMEOUT_S + 6
    assert time.monotonic() - began > TIMEOUT_S / 2


def test_what_is_not_http_is_refused_as_a_problem(strict: str) -> None:
    with connected(strict) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
        refused(connection, 400, "invalid-http")


@pytest.mark.parametrize("start", [b"", HEAD])
def test_silent_connections_make_way(strict: str, start: bytes) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(strict)) for _ in range(2 * MOST)]
        for connection in silent:
            with contextlib.suppress(ConnectionError):
                connection.sendall(start)
        assert answered_s(strict) < TIMEOUT_S
        assert whole_answer(silent[0])[0] == 0  # the first one had to go


def wait_for(done: Callable[[], bool], most_s: float = 10.0) -> None:
    deadline = time.monotonic() + most_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_where_all_are_at_work_a_new_one_is_told_so(strict: str) -> None:
    upload = b"POST /v1/profiles HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with ExitStack() as stack:
        busy = [stack.enter_context(connected(strict)) for _ in range(MOST)]
        for connection in busy:
            connection.sendall(upload + b"Content-Length: 1000\r\n\r\n{")
        time.sleep(0.3)
        for _ in range(3):
            with connected(strict) as late:
                with contextlib.suppress(ConnectionError):
                    late.sendall(HEAD + b"\r\n")
                headers = refused(late, 503, "too-many-connections")
                assert int(headers["retry-after"]) >= 1
    wait_for(lambda: httpx2.get(f"{strict}/healthz").status_code == 200)


def test_a_second_request_on_a_connection_waits_for_the_first(strict: str) -> None:
    with connected(strict) as connection:
        connection.sendall((HEAD + b"\r\n") * 9 + HEAD + b"Connection: close\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.count(b"HTTP/1.1 200 OK") == 10


def test_1100_sockets_leave_the_service_to_others(service: str) -> None:
    with ExitStack() as stack:
        for _ in range(min(1100, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)):
            stack.enter_context(connected(service)).sendall(b"GET /healthz HTTP/1.1\r\n")
        assert answered_s(service) < 5


def test_few_open_files_leave_room_for_fewer_connections_and_the_log_says_so(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))"
    with served(tmp_path, limit) as url, ExitStack() as stack:
        for _ in range(300):
            with contextlib.suppress(ConnectionError):
                stack.enter_context(connected(url)).sendall(HEAD)
        assert answered_s(url) < 5
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    messages = [line["message"] for line in log if line["logger"] == "api.connections.limit"]
    assert messages[0] == "256 open files are enough for 64 connections, not for 1000"
    assert messages[1].startswith("all 64 connections are taken")
