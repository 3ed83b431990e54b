"""Services that are not there, answer something else, or never."""

from __future__ import annotations

import asyncio
import socket
import warnings
from threading import Thread

import pytest

from bitalloc.client import Client, RetryPolicy, ServiceError
from tests.api.foreign_services import allocate, an_allocation, stranger
from tests.api.helpers import tiny


@pytest.fixture
def nobody() -> str:
    """A URL where nobody listens: the port was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_nobody_listening_is_a_service_error_without_status(nobody: str) -> None:
    with (
        Client(nobody) as client,
        pytest.raises(ServiceError, match=r"the service could not be reached: .*refused") as failure,
    ):
        client.allocate(tiny())
    assert failure.value.status is None


def test_nobody_listening_is_a_service_error_for_the_asynchronous_client(nobody: str) -> None:
    with pytest.raises(ServiceError, match=r"the service could not be reached: .+") as failure:
        asyncio.run(allocate(nobody, tiny()))
    assert failure.value.status is None


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", ""])
def test_a_url_that_is_not_http_is_a_service_error(url: str) -> None:
    with Client(url) as client, pytest.raises(ServiceError, match="the service could not be reached"):
        client.allocate(tiny())


STRANGE: dict[str, tuple[int, bytes, str]] = {
    "a page": (502, b"<h1>Bad Gateway</h1>", "Bad Gateway</h1>"),
    "nothing": (503, b"", "the service answered 503: Service Unavailable"),
    "a JSON text": (500, b'"broken"', "broken"),
    "a JSON list": (500, b"[1]", r"\[1\]"),
    "a problem without errors": (500, b'{"detail": "no"}', "no"),
    "a problem with errors of another shape": (422, b'{"detail": "no", "errors": [1]}', "no"),
    "a problem with named errors": (422, b'{"detail": "no", "errors": {"a": 1}}', "no"),
    "faults under another status": (
        400,
        b'{"detail": "all wrong", "errors": [{"pointer": "/a", "detail": "b"}]}',
        "the service answered 400: .*all wrong",
    ),
    "bytes that are no text": (500, b"\xff\xfe\x00", "the service answered 500"),
    "a redirect": (307, b"elsewhere", "the service answered 307: elsewhere"),
    "not found": (404, b'{"detail":"Not Found"}', "Not Found"),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.thorough
def test_an_answer_that_is_no_problem_is_a_service_error_with_its_status(name: str) -> None:
    status, content, words = STRANGE[name]
    with (
        stranger(status, content) as server,
        Client(server.url) as client,
        pytest.raises(ServiceError, match=words) as failure,
    ):
        client.allocate(tiny())
    assert failure.value.status == status


def test_an_error_answer_raises_no_warning() -> None:
    with stranger(500, b"no") as server, Client(server.url) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ServiceError, match="no"):
            client.allocate(tiny())


def test_a_long_page_is_shortened() -> None:
    with (
        stranger(500, b"x" * 10_000) as server,
        Client(server.url) as client,
        pytest.raises(ServiceError, match=r"answered 500: x{200}$"),
    ):
        client.allocate(tiny())


_NOT_AN_ALLOCATION = (
    "bitalloc/client:_allocation lets pydantic's ValidationError escape where a 200 is no allocation"
)


@pytest.mark.parametrize("content", [b"<h1>It works!</h1>", b"{}", b'{"status": "optimal"}', b"null", b""])
def test_a_success_that_is_no_allocation_is_a_service_error_with_its_status(content: bytes) -> None:
    with (
        stranger(200, content) as server,
        Client(server.url) as client,
        pytest.raises(ServiceError, match="the service answered 200") as failure,
    ):
        client.allocate(tiny())
    assert failure.value.status == 200


def test_a_server_that_does_not_speak_http_is_a_service_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = Thread(target=answer)
        thread.start()
        with (
            Client(
                f"http://127.0.0.1:{listener.getsockname()[1]}", retry_policy=RetryPolicy(attempts=1)
            ) as client,
            pytest.raises(ServiceError, match="the service could not be reached") as failure,
        ):
            client.allocate(tiny())
        thread.join()
    assert failure.value.status is None


def test_waiting_longer_than_the_timeout_is_a_service_error() -> None:
    with (
        stranger(200, an_allocation(), seconds=30) as server,
        Client(server.url, timeout=0.2) as client,
        pytest.raises(ServiceError, match="timed out") as failure,
    ):
        client.allocate(tiny())
    assert failure.value.status is None
