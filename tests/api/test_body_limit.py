"""Bodies that are too large: declared honestly, declared not at all, or sent to whoever does not read them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from api.app import create_app
from api.body_limit import BodyLimit
from api.server import running_server
from api.settings import Settings
from tests.api.helpers import problem_of, serving, tiny

PATH = "/v1/allocations"
LIMIT = 2000
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def small() -> Iterator[httpx2.Client]:
    """A service that takes 2000 bytes."""
    with (
        serving(create_app(Settings(max_body_bytes=LIMIT))) as url,
        httpx2.Client(base_url=url) as client,
    ):
        yield client


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


_SWALLOWED = "api/body_limit.py raises inside receive(), where FastAPI turns every exception into a bare 400"


@pytest.mark.parametrize("size", [LIMIT + 1, 10 * LIMIT, 1000 * LIMIT])
def test_a_chunked_body_over_the_limit_is_refused(small: httpx2.Client, size: int) -> None:
    _refused(small.post(PATH, content=_chunks(_body(size)), headers=JSON))


def test_a_chunked_body_over_the_limit_is_not_planned(small: httpx2.Client) -> None:
    assert small.post(PATH, content=_chunks(_body(LIMIT + 1)), headers=JSON).is_client_error


def test_after_a_refusal_the_next_request_is_served(small: httpx2.Client) -> None:
    for size in (LIMIT + 1, 1000 * LIMIT):
        assert small.post(PATH, content=_body(size), headers=JSON).status_code == 413
        assert small.post(PATH, content=_chunks(_body(size)), headers=JSON).is_client_error
        assert small.post(PATH, content=_body(1000), headers=JSON).status_code == 200


def test_the_environment_sets_the_limit_of_a_real_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_MAX_BODY_BYTES", str(LIMIT))
    with running_server() as url:
        assert httpx2.post(url + PATH, content=_body(LIMIT), headers=JSON).status_code == 200
        _refused(httpx2.post(url + PATH, content=_body(LIMIT + 1), headers=JSON))


async def _read_all(receive: Receive) -> int:
    size, more = 0, True
    while more:
        message: Message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return size


async def _count_then_answer(scope: Scope, receive: Receive, send: Send) -> None:
    del scope
    size = str(await _read_all(receive)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(size))]}
    )
    await send({"type": "http.response.body", "body": size})


async def _answer_then_count(scope: Scope, receive: Receive, send: Send) -> None:
    del scope
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun, ", "more_body": True})
    await send({"type": "http.response.body", "body": b"%d bytes" % await _read_all(receive)})


def _around(app: object) -> BodyLimit:
    # uvicorn opens with a lifespan scope, which only real applications answer.
    async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{kind}"
                await send({"type": f"lifespan.{kind}.complete"})
        else:
            await app(scope, receive, send)  # type: ignore[operator]

    return BodyLimit(http_only, LIMIT)


def test_chunks_are_counted_for_any_application_behind_it() -> None:
    with serving(_around(_count_then_answer)) as url:
        assert httpx2.post(url, content=_chunks(bytes(LIMIT))).text == str(LIMIT)
        _refused(httpx2.post(url, content=_chunks(bytes(LIMIT + 1))))


def test_an_answer_that_has_begun_is_cut_off_rather_than_followed_by_another() -> None:
    with serving(_around(_answer_then_count)) as url:
        assert httpx2.post(url, content=_chunks(bytes(LIMIT))).text == f"begun, {LIMIT} bytes"
        # Whether the client sees the end or the reset first is a race.
        with pytest.raises(httpx2.TransportError, match=r"peer closed connection|reset by peer"):
            httpx2.post(url, content=_chunks(bytes(LIMIT + 1)))


def test_nothing_is_sent_after_an_answer_that_has_begun() -> None:
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(700), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "headers": []}
    asyncio.run(BodyLimit(_answer_then_count, LIMIT)(scope, receive, send))
    assert sent == ["http.response.start", "http.response.body"]
