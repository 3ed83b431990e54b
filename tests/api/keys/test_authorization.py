"""Every route of the document: without a key, with a revoked one, and with another key's resources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from api.app import create_app
from api.settings import Settings
from tests.api.helpers import Guarded, problem_of, tiny

#: What needs no key: nothing of anybody's is there.
PUBLIC = {"/healthz", "/readyz", "/metrics", "/"}
ROUTES = sorted(
    (method.upper(), path)
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method in methods
)
GUARDED = [route for route in ROUTES if route[1] not in PUBLIC]


def _ids(routes: list[tuple[str, str]]) -> list[str]:
    return [" ".join(route) for route in routes]


@pytest.fixture(scope="module")
def belongings(guarded: Guarded) -> dict[str, str]:
    """One resource of each kind, made with my key: the path of its collection, and its id."""
    with _client(guarded.url, guarded.mine) as client:
        plan = client.post("/v1/allocations", json={"profile": tiny()}, timeout=60)
        profile = client.post("/v1/profiles", json=tiny(), timeout=60)
        made = {"allocations": plan.json()["id"], "profiles": profile.json()["id"]}
        if any(path.startswith("/v1/jobs") for _, path in ROUTES):
            made["jobs"] = _job(client)
        return made


def _job(client: httpx2.Client) -> str:
    headers = {"prefer": "respond-async, wait=0"}
    response = client.post("/v1/allocations", json={"profile": tiny()}, headers=headers, timeout=60)
    assert response.status_code == 202, response.text
    return str(response.headers["location"].rpartition("/")[2])


def _client(url: str, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60)


def _filled(path: str, made: dict[str, str]) -> str:
    collection = path.split("/")[2]
    return re.sub(r"{\w+}", made.get(collection, "0" * 32), path)


def test_routes_are_under_v1_or_public() -> None:
    assert {path for _, path in GUARDED} >= {"/v1/allocations", "/v1/profiles/{id}"}
    assert all(path.startswith("/v1/") for _, path in GUARDED)


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=_ids(GUARDED))
@pytest.mark.parametrize("key", ["none", "revoked", "forged"])
def test_a_route_needs_a_good_key(
    guarded: Guarded, belongings: dict[str, str], method: str, path: str, key: str
) -> None:
    sent = {"none": {}, "revoked": guarded.revoked, "forged": guarded.mine[:-2] + "zz"}[key]
    headers = {"authorization": f"Bearer {sent}"} if sent else {}
    response = httpx2.request(method, guarded.url + _filled(path, belongings), headers=headers, json={})
    problem_of(response, 401)


def _about_one(routes: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return (route for route in routes if "{" in route[1])


OWNED = list(_about_one(GUARDED))


@pytest.mark.parametrize(("method", "path"), OWNED, ids=_ids(OWNED))
def test_another_keys_resource_is_not_there(
    guarded: Guarded, belongings: dict[str, str], method: str, path: str
) -> None:
    body: Any = {"method": method, "url": _filled(path, belongings)}
    with _client(guarded.url, guarded.theirs) as client:
        if method == "PUT":  # storing the same profile is no look into somebody else's
            assert client.put(body["url"], json=tiny()).status_code == 201
            assert client.delete(body["url"]).status_code == 204
        else:
            problem_of(client.request(**body), 404)
    if method == "GET" and not path.endswith("/events"):
        with _client(guarded.url, guarded.mine) as client:
            assert client.request(**body).status_code == 200


LISTS = {path for method, path in GUARDED if method == "GET"} - {path for _, path in OWNED}
#: Lists of what the program knows, the same for everybody.
KNOWLEDGE = {"/v1/exports", "/v1/lint"}


@pytest.mark.parametrize("path", sorted(LISTS - KNOWLEDGE))
def test_lists_show_ones_own_only(guarded: Guarded, belongings: dict[str, str], path: str) -> None:
    del belongings
    with _client(guarded.url, guarded.theirs) as client:
        assert client.get(path).json()["items"] == []
    with _client(guarded.url, guarded.mine) as client:
        assert client.get(path).json()["items"]


@pytest.mark.parametrize("path", ["allocations", "frontiers", "explanations", "comparisons"])
@pytest.mark.parametrize("prefer", ["wait=30", "respond-async"])
def test_another_keys_profile_cannot_be_planned_with(
    guarded: Guarded, belongings: dict[str, str], path: str, prefer: str
) -> None:
    request: dict[str, Any] = {"profile_id": belongings["profiles"]}
    if path == "comparisons":
        request |= {"first": {}, "second": {"objective": "weight_bytes"}}
    headers = {"prefer": prefer}
    with _client(guarded.url, guarded.mine) as client:
        # Twice, so that the worker has the profile at hand when the other key asks.
        answers = [client.post(f"/v1/{path}", json=request, headers=headers) for _ in range(2)]
    assert all(answer.is_success for answer in answers), answers[0].text
    with _client(guarded.url, guarded.theirs) as client:
        problem = problem_of(client.post(f"/v1/{path}", json=request, headers=headers), 404)
    assert problem["type"] == "urn:bitalloc:problem:no-such-profile"


def test_another_keys_allocation_cannot_be_named(guarded: Guarded, belongings: dict[str, str]) -> None:
    named = {"allocation_id": belongings["allocations"]}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/exports", {**named, "target": "torchao"}),
        ("/v1/lint", {**named, "runtime": "vllm"}),
        ("/v1/comparisons", {"profile": tiny(), "first": named, "second": {}}),
        ("/v1/comparisons", {"profile": tiny(), "first": {}, "second": named}),
    ]
    for path, body in bodies:
        with _client(guarded.url, guarded.mine) as client:
            assert client.post(path, json=body).status_code == 200
        with _client(guarded.url, guarded.theirs) as client:
            problem = problem_of(client.post(path, json=body), 404)
            assert problem["type"] == "urn:bitalloc:problem:no-such-allocation"


def test_two_callers_may_use_the_same_idempotency_key(guarded: Guarded) -> None:
    for key, target in ((guarded.mine, "mlx"), (guarded.theirs, "torchao")):
        with _client(guarded.url, key) as client:
            body = {"plan": {"up": "int4-g64"}, "target": target}
            answer = client.post("/v1/exports", json=body, headers={"idempotency-key": "shared"})
        assert answer.json()["target"] == target
        assert "idempotency-replayed" not in answer.headers


PUBLIC_ROUTES = [route for route in ROUTES if route[1] in PUBLIC]


@pytest.mark.parametrize(("method", "path"), PUBLIC_ROUTES, ids=_ids(PUBLIC_ROUTES))
def test_what_is_public_needs_no_key(guarded: Guarded, method: str, path: str) -> None:
    assert httpx2.request(method, guarded.url + path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "//v1/allocations",
        "/v1//allocations",
        "/V1/allocations",
        "/%76%31/allocations",
        "/v1/../v1/allocations",
        "/v1;x/allocations",
        "/v1/allocations/",
    ],
)
def test_no_spelling_of_a_path_gets_around_the_key(guarded: Guarded, path: str) -> None:
    response = httpx2.get(guarded.url + path, headers={"x-request-id": "r"}, follow_redirects=False)
    assert response.status_code in {401, 404}
