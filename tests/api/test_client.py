"""The client against the real service, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from allocator import Allocation, BitallocError, InvalidInputError, Status, load_profile, solve
from api.app import create_app
from api.client import AsyncClient, Client, ServiceError
from api.settings import Settings
from tests.api.bad_input import Case, params
from tests.api.helpers import comparable, random_profile, serving, tiny

# api/client.py compares with a code that httpx2 2.10 deprecated; one test below is strict about it.
FIELDS: dict[str, dict[str, Any]] = {
    "no fields": {"objective": "kl"},
    "effective bits": {"objective": "kl", "budgets": {"effective_bits": 4.25}},
    "all fields": {
        "objective": {"kl": 1.0, "fisher": 0.5},
        "budgets": {"effective_bits": 5, "latency": "500 us"},
        "pin": {"layer.0": "int8-g64"},
        "allow": {"layer.1*": ("int4-g64", "int8-g64")},
        "forbid": {"layer.2": ["int2-g64"]},
        "solver": "highs",
        "gap": 0.01,
        "time_limit_s": 20.0,
    },
    "infeasible": {"objective": "kl", "budgets": {"weight_bytes": 1}},
}
PROFILE = random_profile(20)


async def _allocate(url: str, profile: Any, **fields: Any) -> Allocation:
    async with AsyncClient(url) as client:
        return await client.allocate(profile, **fields)


@pytest.mark.parametrize("name", FIELDS)
def test_the_client_returns_what_the_library_returns(service: str, name: str) -> None:
    with Client(service) as client:
        assert comparable(client.allocate(PROFILE, **FIELDS[name])) == comparable(
            solve(PROFILE, **FIELDS[name])
        )


@pytest.mark.parametrize("name", FIELDS)
def test_the_asynchronous_client_returns_what_the_library_returns(service: str, name: str) -> None:
    plan = asyncio.run(_allocate(service, PROFILE, **FIELDS[name]))
    assert comparable(plan) == comparable(solve(PROFILE, **FIELDS[name]))


def test_an_infeasible_request_is_an_allocation_and_no_error(service: str) -> None:
    with Client(service) as client:
        plan = client.allocate(tiny(), budgets={"weight_bytes": 100})
    assert plan.status is Status.INFEASIBLE
    assert plan.assignment is None
    assert plan.achievable["weight_bytes"].least_with_others == 4352


def test_a_profile_may_come_as_an_object_a_mapping_a_text_bytes_or_a_file(
    service: str, tmp_path: Path
) -> None:
    text = json.dumps(tiny())
    path = tmp_path / "profile.json"
    path.write_text(text)
    with Client(service) as client:
        answers = [
            comparable(client.allocate(source, budgets={"effective_bits": 6.5}))
            for source in (load_profile(tiny()), tiny(), text, text.encode(), path)
        ]
    assert answers == [comparable(solve(tiny(), budgets={"effective_bits": 6.5}))] * 5


def test_many_requests_at_once_get_their_own_answers(service: str) -> None:
    budgets = [3.0 + 0.25 * step for step in range(12)]

    async def ask() -> list[Allocation]:
        async with AsyncClient(service) as client:
            asked = (
                client.allocate(PROFILE, objective="kl", budgets={"effective_bits": bits}) for bits in budgets
            )
            return list(await asyncio.gather(*asked))

    for bits, plan in zip(budgets, asyncio.run(ask()), strict=True):
        alone = solve(PROFILE, objective="kl", budgets={"effective_bits": bits})
        assert plan.assignment == alone.assignment
        assert plan.objective == alone.objective


@pytest.mark.parametrize("case", params("client"))
def test_the_client_points_at_the_same_field_as_the_library(service: str, case: Case) -> None:
    with Client(service) as client, pytest.raises(InvalidInputError) as refusal:
        client.allocate(case.profile, **case.fields)
    assert [fault.pointer for fault in refusal.value.faults] == [case.pointer]
    assert case.words in refusal.value.faults[0].detail


def test_the_asynchronous_client_points_at_the_same_field_too(service: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^/budgets/wieght: unknown budget 'wieght'"):
        asyncio.run(_allocate(service, tiny(), budgets={"wieght": 1}))


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_json_cannot_hold_is_refused(service: str, value: object) -> None:
    detail = r"^/budgets: Input should be a valid dictionary"
    with Client(service) as client, pytest.raises(InvalidInputError, match=detail):
        client.allocate(tiny(), budgets=value)


def test_a_missing_solver_package_is_a_service_error(without_solvers: str) -> None:
    with (
        Client(without_solvers) as client,
        pytest.raises(ServiceError, match="the service answered 501: ortools is needed here") as failure,
    ):
        client.allocate(tiny(), solver="cpsat")
    assert failure.value.status == 501


def test_a_profile_that_is_too_large_is_a_service_error() -> None:
    # Far more than sockets buffer: the service answers and hangs up while the client is still sending.
    profile = tiny(model="m" * 20_000_000)
    with (
        serving(create_app(Settings(max_body_bytes=1000))) as url,
        Client(url) as client,
        pytest.raises(ServiceError, match="413: the body is larger than the limit of 1000 bytes") as failure,
    ):
        client.allocate(profile)
    assert failure.value.status == 413


def test_a_service_error_is_an_error_of_bitalloc() -> None:
    assert issubclass(ServiceError, BitallocError)
    assert issubclass(ServiceError, RuntimeError)


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
        asyncio.run(_allocate(nobody, tiny()))
    assert failure.value.status is None


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", ""])
def test_a_url_that_is_not_http_is_a_service_error(url: str) -> None:
    with Client(url) as client, pytest.raises(ServiceError, match="the service could not be reached"):
        client.allocate(tiny())


@dataclass
class Stranger:
    """An HTTP server that answers the same whatever it is asked, and counts."""

    url: str
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    hung_up: Event = field(default_factory=Event)


@contextmanager
def _stranger(
    status: int, content: bytes, content_type: str = "application/json", seconds: float = 0.0
) -> Iterator[Stranger]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open until the client closes them

        def setup(self) -> None:
            super().setup()
            seen.connections += 1

        def finish(self) -> None:
            super().finish()
            seen.hung_up.set()

        def do_POST(self) -> None:
            seen.requests.append(self.rfile.read(int(self.headers["content-length"])))
            stop.wait(seconds)
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    stop = Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen = Stranger(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer() -> bytes:
    return json.dumps(json.loads(solve(tiny()).model_dump_json()) | {"id": "0" * 32}).encode()


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
def test_an_answer_that_is_no_problem_is_a_service_error_with_its_status(name: str) -> None:
    status, content, words = STRANGE[name]
    with (
        _stranger(status, content) as server,
        Client(server.url) as client,
        pytest.raises(ServiceError, match=words) as failure,
    ):
        client.allocate(tiny())
    assert failure.value.status == status


def test_an_error_answer_raises_no_warning() -> None:
    with _stranger(500, b"no") as server, Client(server.url) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ServiceError, match="no"):
            client.allocate(tiny())


def test_a_long_page_is_shortened() -> None:
    with (
        _stranger(500, b"x" * 10_000) as server,
        Client(server.url) as client,
        pytest.raises(ServiceError, match=r"answered 500: x{200}$"),
    ):
        client.allocate(tiny())


_NOT_AN_ALLOCATION = (
    "api/client.py:_allocation lets pydantic's ValidationError escape where a 200 is no allocation"
)


@pytest.mark.parametrize("content", [b"<h1>It works!</h1>", b"{}", b'{"status": "optimal"}', b"null", b""])
def test_a_success_that_is_no_allocation_is_a_service_error_with_its_status(content: bytes) -> None:
    with (
        _stranger(200, content) as server,
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
            Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(ServiceError, match="the service could not be reached") as failure,
        ):
            client.allocate(tiny())
        thread.join()
    assert failure.value.status is None


def test_waiting_longer_than_the_timeout_is_a_service_error() -> None:
    with (
        _stranger(200, _answer(), seconds=30) as server,
        Client(server.url, timeout=0.2) as client,
        pytest.raises(ServiceError, match="timed out") as failure,
    ):
        client.allocate(tiny())
    assert failure.value.status is None


def test_a_faulty_profile_is_refused_before_anything_is_sent() -> None:
    with _stranger(200, _answer()) as server, Client(server.url) as client:
        with pytest.raises(InvalidInputError, match="/wieghts: unknown field"):
            client.allocate(tiny(wieghts=1))
        with pytest.raises(InvalidInputError, match="cannot read the profile"):
            client.allocate(Path("missing.json"))
        assert server.requests == []
        assert server.connections == 0


def test_a_faulty_profile_is_refused_by_the_asynchronous_client_before_anything_is_sent() -> None:
    with _stranger(200, _answer()) as server:
        with pytest.raises(InvalidInputError, match="/wieghts: unknown field"):
            asyncio.run(_allocate(server.url, tiny(wieghts=1)))
        assert server.requests == []


def test_the_request_holds_the_fields_and_the_digest_of_the_profile() -> None:
    with _stranger(200, _answer()) as server, Client(server.url) as client:
        client.allocate(tiny(), budgets={"kl": 1}, gap=0.1)
    (content,) = server.requests
    sha256 = load_profile(tiny()).digest()
    assert json.loads(content) == {"profile_id": sha256, "budgets": {"kl": 1}, "gap": 0.1}


def test_the_client_keeps_one_connection_and_closes_it_at_the_end() -> None:
    with _stranger(200, _answer()) as server:
        with Client(server.url) as client:
            client.allocate(tiny())
            client.allocate(tiny())
            assert server.connections == 1
            assert not server.hung_up.is_set()
        assert server.hung_up.wait(5)


def test_the_asynchronous_client_keeps_one_connection_and_closes_it_at_the_end() -> None:
    async def twice(url: str) -> None:
        async with AsyncClient(url) as client:
            await client.allocate(tiny())
            await client.allocate(tiny())
            assert server.connections == 1
            assert not server.hung_up.is_set()
        assert await asyncio.to_thread(server.hung_up.wait, 5)

    with _stranger(200, _answer()) as server:
        asyncio.run(twice(server.url))


def test_the_client_closes_its_connection_after_an_error_too() -> None:
    with _stranger(500, b"no") as server:
        with pytest.raises(ServiceError, match="no"), Client(server.url) as client:
            client.allocate(tiny())
        assert server.hung_up.wait(5)


def test_closing_by_hand_works_without_a_block() -> None:
    with _stranger(200, _answer()) as server:
        client = Client(server.url)
        client.allocate(tiny())
        client.close()
        assert server.hung_up.wait(5)
        with pytest.raises(RuntimeError, match="closed"):
            client.allocate(tiny())


def test_a_transport_can_replace_the_network() -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        assert request.url == "http://nowhere/v1/allocations"
        return httpx2.Response(200, content=_answer())

    with Client("http://nowhere", transport=httpx2.MockTransport(respond)) as client:
        assert client.allocate(tiny()).status is Status.OPTIMAL


def test_the_asynchronous_client_can_talk_to_an_application_in_process() -> None:
    async def ask(app: FastAPI) -> Allocation:
        async with (
            app.router.lifespan_context(app),
            AsyncClient("http://nowhere", transport=httpx2.ASGITransport(app)) as client,
        ):
            return await client.allocate(tiny(), budgets={"effective_bits": 6.5})

    plan = asyncio.run(ask(create_app(Settings())))
    assert comparable(plan) == comparable(solve(tiny(), budgets={"effective_bits": 6.5}))


def test_importing_the_client_imports_neither_the_service_nor_torch() -> None:
    code = "import api.client, sys; print([m for m in ('fastapi', 'uvicorn', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
