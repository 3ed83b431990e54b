"""Stored profiles over HTTP, and plans made with them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2
import pytest

from allocator import frontier, load_profile, solve
from bitalloc.client import AsyncClient, Client, ServiceError
from bitalloc.operations import FrontierAnswer
from bitalloc.wire import StoredAllocation
from tests.api.helpers import comparable, problem_of, random_profile, tiny

PATH = "/v1/profiles"
JSON = {"content-type": "application/json"}


def test_a_profile_lives_under_its_digest(http: httpx2.Client) -> None:
    profile = tiny(model="put")
    digest = load_profile(profile).digest()
    first = http.put(f"{PATH}/{digest}", json=profile)
    assert first.status_code == 201
    assert first.headers["location"] == f"{PATH}/{digest}"
    again = http.put(f"{PATH}/{digest}", json=profile)
    assert again.status_code == 200
    assert again.json() == first.json()
    entry = first.json()
    assert entry["id"] == digest
    assert (entry["model"], entry["layers"], entry["formats"]) == ("put", 2, ["int4-g64", "int8-g64"])
    canonical = load_profile(profile).model_dump_json()
    assert entry["size_bytes"] == len(canonical.encode())
    assert http.get(f"{PATH}/{digest}").text == canonical
    plain = http.get(f"{PATH}/{digest}", headers={"accept-encoding": "identity"})
    assert (plain.text, "content-encoding" in plain.headers) == (canonical, False)
    assert http.delete(f"{PATH}/{digest}").status_code == 204
    problem_of(http.delete(f"{PATH}/{digest}"), 404)
    problem_of(http.get(f"{PATH}/{digest}"), 404)


def test_the_order_of_members_and_spaces_do_not_matter(http: httpx2.Client) -> None:
    profile = tiny(model="posted")
    shuffled = json.dumps(dict(reversed(profile.items())), indent=3)
    response = http.post(PATH, content=shuffled, headers=JSON)
    assert response.status_code == 201
    assert response.json()["id"] == load_profile(profile).digest()
    assert http.post(PATH, json=profile).status_code == 200


def test_another_digest_is_refused_with_the_right_one(http: httpx2.Client) -> None:
    body = problem_of(http.put(f"{PATH}/{'0' * 64}", json=tiny()), 422)
    assert load_profile(tiny()).digest() in body["errors"][0]["detail"]


def test_a_faulty_profile_is_not_stored(http: httpx2.Client) -> None:
    body = problem_of(http.post(PATH, json=tiny(layers=[])), 422)
    assert [error["pointer"] for error in body["errors"]] == ["/layers"]
    problem_of(http.post(PATH, content=b"{", headers=JSON), 400)


@pytest.mark.parametrize("digest", ["0" * 63, "G" * 64, "..%2f..%2fetc"])
def test_an_id_that_is_no_digest_is_refused(http: httpx2.Client, digest: str) -> None:
    assert http.get(f"{PATH}/{digest}").status_code in {404, 422}


def test_profiles_are_listed_newest_first_in_pages(http: httpx2.Client) -> None:
    ids = [http.post(PATH, json=tiny(model=f"page {index}")).json()["id"] for index in range(5)]
    seen: list[str] = []
    cursor = ""
    while len(seen) < 5:
        page = http.get(PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) == 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen[:5] == ids[::-1]


def test_planning_by_id_is_planning(http: httpx2.Client) -> None:
    profile = random_profile(40)
    fields = {"objective": "kl", "budgets": {"effective_bits": 4.25, "latency": "5 ms"}}
    identifier = http.post(PATH, json=profile).json()["id"]
    for _ in range(4):  # every worker parses it once and then has it at hand
        response = http.post("/v1/allocations", json={"profile_id": identifier, **fields})
        assert comparable(response.content) == comparable(solve(profile, **fields))
        location = response.headers["location"]
        assert location == f"/v1/allocations/{response.json()['id']}"
        assert http.get(location).content == response.content
    http.delete(f"{PATH}/{identifier}")
    body = problem_of(http.post("/v1/allocations", json={"profile_id": identifier, **fields}), 404)
    assert body["type"] == "urn:bitalloc:problem:no-such-profile"
    assert http.get(location).status_code == 200  # the plan stays


@pytest.mark.parametrize("both", [{}, {"profile": tiny(), "profile_id": "0" * 64}])
def test_a_plan_has_exactly_one_profile(http: httpx2.Client, both: dict[str, object]) -> None:
    body = problem_of(http.post("/v1/allocations", json=both), 422)
    assert [error["pointer"] for error in body["errors"]] == ["/profile"]


def test_a_batch_is_several_plans(http: httpx2.Client) -> None:
    batch = [{"effective_bits": bits} for bits in (5.0, 6.5, 8.25)] + [{}]
    request = {"profile": tiny(), "budgets": {"kl": 0.1}, "batch": batch}
    response = http.post("/v1/allocations", json=request)
    assert response.status_code == 200, response.text
    plans = response.json()["allocations"]
    for plan, budgets in zip(plans, batch, strict=True):
        assert comparable(plan) == comparable(solve(tiny(), budgets={"kl": 0.1} | budgets))
        assert comparable(http.get(f"/v1/allocations/{plan['id']}").content) == comparable(plan)
    assert [plan["id"] for plan in plans] == sorted(plan["id"] for plan in plans)


def test_a_fault_in_a_batch_is_pointed_at(http: httpx2.Client) -> None:
    batch = [{"effective_bits": 5}, {"effectie_bits": 5}]
    body = problem_of(http.post("/v1/allocations", json={"profile": tiny(), "batch": batch}), 422)
    assert [error["pointer"] for error in body["errors"]] == ["/batch/1/effectie_bits"]
    body = problem_of(http.post("/v1/allocations", json={"profile": tiny(), "batch": []}), 422)
    assert [error["pointer"] for error in body["errors"]] == ["/batch"]


def test_plans_are_listed_by_profile(http: httpx2.Client) -> None:
    profile = tiny(model="listed")
    made = [http.post("/v1/allocations", json={"profile": profile}).json()["id"] for _ in range(3)]
    params = {"profile_id": load_profile(profile).digest()}
    items = http.get("/v1/allocations", params=params).json()["items"]
    assert [item["id"] for item in items] == made[::-1]
    assert {item["status"] for item in items} == {"optimal"}


def test_the_client_sends_a_profile_once(service: str) -> None:
    profile = random_profile(17, seed=9)
    sent: list[str] = []

    def note(request: httpx2.Request) -> None:
        sent.append(f"{request.method} {request.url.path}")

    with Client(service) as client:
        client._http.event_hooks["request"].append(note)
        plans = [
            client.allocate(profile, objective="kl", budgets={"effective_bits": bits}) for bits in (4, 5)
        ]
        batch = client.allocate_batch(profile, [{"effective_bits": 4}, {"effective_bits": 5}], objective="kl")
    assert sent == ["POST /v1/allocations", "POST /v1/profiles", *["POST /v1/allocations"] * 3]
    assert [comparable(plan) for plan in batch] == [comparable(plan) for plan in plans]


def test_the_client_shows_a_front(service: str) -> None:
    profile = random_profile(12, seed=4)
    expected = frontier(profile, "latency", points=2, objective="kl")
    with Client(service) as client:
        front = client.frontier(profile, "latency", points=2, objective="kl")
        by_budgets = client.frontier(profile, "latency", points=["1 ms"], objective="kl")
    assert front.spend == tuple(expected.spend.tolist())
    assert front.objective == tuple(expected.objective.tolist())
    assert [comparable(plan) for plan in front.exact] == [comparable(plan) for plan in expected.exact]
    assert len(by_budgets.exact) == 1

    async def ask() -> FrontierAnswer:
        async with AsyncClient(service) as client:
            return await client.frontier(profile, "latency", objective="kl")

    assert asyncio.run(ask()).spend == front.spend


@pytest.mark.parametrize("stored", [False, True])
def test_a_job_sends_its_profile_only_where_it_is_not_stored(
    service: str, tmp_path: Path, stored: bool
) -> None:
    content = tiny(model=f"submitted {stored}")
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content))
    sent: list[str] = []
    with Client(service) as client:
        if stored:
            client.upload(path)
        client._http.event_hooks["request"].append(
            lambda request: sent.append(f"{request.method} {request.url.path}")
        )
        job = client.submit(path, budgets={"effective_bits": 6.5})
        asked = list(sent)
        *_, end = client.events(job.id)
        (plan,) = client.allocate_batch(content, [{"effective_bits": 6.5}])
    assert end.ended is not None
    assert end.ended.state == "succeeded"
    first, *others = ["POST /v1/allocations", "POST /v1/profiles", "POST /v1/allocations"]
    assert asked == ([first] if stored else [first, *others])
    assert comparable(plan) == comparable(solve(content, budgets={"effective_bits": 6.5}))


def test_both_clients_follow_the_same_jobs(service: str) -> None:
    async def ask() -> tuple[StoredAllocation, ...]:
        async with AsyncClient(service) as client:
            job = await client.submit(tiny(model="followed"), budgets={"effective_bits": 6.5})
            events = [event async for event in client.events(job.id)]
            assert events[-1].ended == await client.job(job.id)
            with pytest.raises(ServiceError, match="answered 409"):
                await client.cancel(job.id)
            entry = await client.upload(tiny(model="followed"))
            assert entry.model == "followed"
            return await client.allocate_batch(tiny(model="followed"), [{"effective_bits": 6.5}])

    (plan,) = asyncio.run(ask())
    assert comparable(plan) == comparable(solve(tiny(model="followed"), budgets={"effective_bits": 6.5}))
