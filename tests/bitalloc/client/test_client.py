"""The client gives what the library gives, on one connection."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from allocator import Allocation, BitallocError, InvalidInputError, Status, load_profile, solve
from api.app import create_app
from api.settings import Settings
from bitalloc.client import AsyncClient, Client, ServiceError
from tests.api.bad_input import Case, params
from tests.api.foreign_services import allocate, an_allocation, stranger
from tests.api.helpers import comparable, random_profile, serving, tiny

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


@pytest.mark.parametrize("name", FIELDS)
def test_the_client_returns_what_the_library_returns(service: str, name: str) -> None:
    with Client(service) as client:
        assert comparable(client.allocate(PROFILE, **FIELDS[name])) == comparable(
            solve(PROFILE, **FIELDS[name])
        )


@pytest.mark.parametrize("name", FIELDS)
def test_the_asynchronous_client_returns_what_the_library_returns(service: str, name: str) -> None:
    plan = asyncio.run(allocate(service, PROFILE, **FIELDS[name]))
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
        asyncio.run(allocate(service, tiny(), budgets={"wieght": 1}))


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_json_cannot_hold_is_refused(service: str, value: object) -> None:
    detail = r"^/budgets: Input should be a valid dictionary"
    with Client(service) as client, pytest.raises(InvalidInputError, match=detail):
        client.allocate(tiny(), budgets=value)


@pytest.mark.thorough
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


def test_a_faulty_profile_is_refused_before_anything_is_sent() -> None:
    with stranger(200, an_allocation()) as server, Client(server.url) as client:
        with pytest.raises(InvalidInputError, match="/wieghts: unknown field"):
            client.allocate(tiny(wieghts=1))
        with pytest.raises(InvalidInputError, match="cannot read the profile"):
            client.allocate(Path("missing.json"))
        assert server.requests == []
        assert server.connections == 0


def test_a_faulty_profile_is_refused_by_the_asynchronous_client_before_anything_is_sent() -> None:
    with stranger(200, an_allocation()) as server:
        with pytest.raises(InvalidInputError, match="/wieghts: unknown field"):
            asyncio.run(allocate(server.url, tiny(wieghts=1)))
        assert server.requests == []


def test_the_request_holds_the_fields_and_the_digest_of_the_profile() -> None:
    with stranger(200, an_allocation()) as server, Client(server.url) as client:
        client.allocate(tiny(), budgets={"kl": 1}, gap=0.1)
    (content,) = server.requests
    sha256 = load_profile(tiny()).digest()
    assert json.loads(content) == {"profile_id": sha256, "budgets": {"kl": 1}, "gap": 0.1}


def test_the_client_keeps_one_connection_and_closes_it_at_the_end() -> None:
    with stranger(200, an_allocation()) as server:
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

    with stranger(200, an_allocation()) as server:
        asyncio.run(twice(server.url))


def test_the_client_closes_its_connection_after_an_error_too() -> None:
    with stranger(500, b"no") as server:
        with pytest.raises(ServiceError, match="no"), Client(server.url) as client:
            client.allocate(tiny())
        assert server.hung_up.wait(5)


def test_closing_by_hand_works_without_a_block() -> None:
    with stranger(200, an_allocation()) as server:
        client = Client(server.url)
        client.allocate(tiny())
        client.close()
        assert server.hung_up.wait(5)
        with pytest.raises(RuntimeError, match="closed"):
            client.allocate(tiny())


def test_a_transport_can_replace_the_network() -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        assert request.url == "http://nowhere/v1/allocations"
        return httpx2.Response(200, content=an_allocation())

    with Client("http://nowhere", transport=httpx2.MockTransport(respond)) as client:
        assert client.allocate(tiny()).status is Status.OPTIMAL


def test_the_asynchronous_client_can_talk_to_an_application_in_process() -> None:
    async def ask(app: FastAPI) -> Allocation:
        async with (
            app.router.lifespan_context(app),
            AsyncClient("http://localhost", transport=httpx2.ASGITransport(app)) as client,
        ):
            return await client.allocate(tiny(), budgets={"effective_bits": 6.5})

    plan = asyncio.run(ask(create_app(Settings())))
    assert comparable(plan) == comparable(solve(tiny(), budgets={"effective_bits": 6.5}))


def test_importing_the_client_imports_neither_the_service_nor_torch() -> None:
    code = (
        "import bitalloc.client, sys; print([m for m in ('fastapi', 'uvicorn', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
