"""`Idempotency-Key` on every route that computes: the same answer, byte for byte, and the work done once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.api.helpers import problem_of, random_profile, tiny

PLAN = {"up": "int4-g64", "down": "int8-g64"}
#: For each route a request, and what another one asks for.
ROUTES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "/v1/profiles": (tiny(model="once"), {"model": "twice"}),
    "/v1/allocations": ({"profile": tiny()}, {"gap": 0.5}),
    "/v1/frontiers": ({"profile": tiny(), "points": 2}, {"points": 3}),
    "/v1/explanations": ({"profile": tiny(), "budgets": {"effective_bits": 6.5}}, {"layers": ["up"]}),
    "/v1/comparisons": ({"profile": tiny(), "first": {"assignment": PLAN}, "second": {}}, {"gap": 0.5}),
    "/v1/exports": ({"plan": PLAN, "target": "mlx"}, {"target": "torchao"}),
    "/v1/lint": ({"plan": PLAN, "runtime": "vllm"}, {"runtime": "torchao"}),
}


@pytest.mark.parametrize("path", ROUTES)
def test_the_same_key_gets_the_same_answer(http: httpx2.Client, path: str) -> None:
    body, other = ROUTES[path]
    keys = {"idempotency-key": uuid4().hex}
    first, again = (http.post(path, json=body, headers=keys) for _ in range(2))
    assert first.is_success, first.text
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"] == "application/json"
    assert again.headers.get("location") == first.headers.get("location")
    refused = problem_of(http.post(path, json=body | other, headers=keys), 422)
    assert refused["type"] == "urn:bitalloc:problem:idempotency-key-reused"


@pytest.mark.parametrize("path", ROUTES)
def test_a_key_is_free_again_where_its_request_failed(http: httpx2.Client, path: str) -> None:
    body, _ = ROUTES[path]
    keys = {"idempotency-key": uuid4().hex}
    problem_of(http.post(path, json=body | {"unheard_of": 1}, headers=keys), 422)
    assert http.post(path, json=body, headers=keys).is_success


def test_the_work_is_not_done_twice(http: httpx2.Client) -> None:
    keys, profile = {"idempotency-key": uuid4().hex}, random_profile(3, seed=8128)
    first = http.post("/v1/profiles", json=profile, headers=keys)
    assert first.status_code == 201
    where = first.headers["location"]
    assert http.delete(where).status_code == 204
    again = http.post("/v1/profiles", json=profile, headers=keys)
    assert (again.status_code, again.headers["location"]) == (201, where)
    problem_of(http.get(where), 404)  # nothing was stored again


def test_a_key_is_of_one_request_whatever_its_route(http: httpx2.Client) -> None:
    keys = {"idempotency-key": uuid4().hex}
    assert http.post("/v1/lint", json=ROUTES["/v1/lint"][0], headers=keys).is_success
    refused = problem_of(http.post("/v1/exports", json=ROUTES["/v1/exports"][0], headers=keys), 422)
    assert refused["type"] == "urn:bitalloc:problem:idempotency-key-reused"
