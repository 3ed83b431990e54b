"""Exports, lint and comparisons of a plan that the service keeps, named by its id."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.api.helpers import problem_of, tiny


@pytest.fixture
def plan(http: httpx2.Client) -> dict[str, Any]:
    """A plan that the service keeps."""
    asked = {"profile": tiny(), "budgets": {"effective_bits": 6.5}}
    stored: dict[str, Any] = http.post("/v1/allocations", json=asked).json()
    return stored


@pytest.fixture
def none(http: httpx2.Client) -> str:
    """The id of an answer without a plan."""
    asked = {"profile": tiny(), "budgets": {"weight_bytes": 1}}
    return str(http.post("/v1/allocations", json=asked).json()["id"])


@pytest.mark.parametrize(
    ("path", "fields"), [("/v1/exports", {"target": "mlx"}), ("/v1/lint", {"runtime": "vllm"})]
)
def test_the_id_says_as_much_as_the_plan(
    http: httpx2.Client, plan: dict[str, Any], path: str, fields: dict[str, Any]
) -> None:
    by_id = http.post(path, json={"allocation_id": plan["id"], **fields})
    assert by_id.status_code == 200, by_id.text
    assert by_id.json() == http.post(path, json={"plan": plan, **fields}).json()
    problem = problem_of(http.post(path, json={"allocation_id": "0" * 32, **fields}), 404)
    assert problem["type"] == "urn:bitalloc:problem:no-such-allocation"
    # The worker that was refused goes on.
    assert http.post(path, json={"allocation_id": plan["id"], **fields}).json() == by_id.json()


def test_faults_of_a_stored_plan_point_into_it(http: httpx2.Client, plan: dict[str, Any], none: str) -> None:
    strict = {"allocation_id": plan["id"], "target": "mlx", "strict": True}
    faults = problem_of(http.post("/v1/exports", json=strict), 422)["errors"]
    assert [fault["pointer"] for fault in faults] == ["/allocation_id/up", "/allocation_id/down"]
    for path, fields in (("/v1/exports", {"target": "mlx"}), ("/v1/lint", {"runtime": "vllm"})):
        (fault,) = problem_of(http.post(path, json={"allocation_id": none, **fields}), 422)["errors"]
        assert fault["pointer"] == "/allocation_id"
        assert "the allocation is infeasible" in fault["detail"]


def test_a_stored_plan_is_compared(http: httpx2.Client, plan: dict[str, Any]) -> None:
    other = {"assignment": {"up": "int4-g64", "down": "int4-g64"}}
    named = {"profile": tiny(), "first": {"allocation_id": plan["id"]}, "second": other}
    told = {"profile": tiny(), "first": {"assignment": plan["assignment"]}, "second": other}
    found = http.post("/v1/comparisons", json=named)
    assert found.status_code == 200, found.text
    assert found.json() == http.post("/v1/comparisons", json=told).json()
    assert found.json()["first"]["assignment"] == plan["assignment"]


def test_faults_of_a_comparison_point_at_the_side(
    http: httpx2.Client, plan: dict[str, Any], none: str
) -> None:
    def faults(side: dict[str, Any], **fields: Any) -> list[dict[str, str]]:
        body = {"profile": tiny(), "first": {}, "second": side} | fields
        found: list[dict[str, str]] = problem_of(http.post("/v1/comparisons", json=body), 422)["errors"]
        return found

    (fault,) = faults({"allocation_id": none})
    assert fault["pointer"] == "/second/allocation_id"
    assert "no plan to compare" in fault["detail"]
    (fault,) = faults({"allocation_id": plan["id"], "objective": "kl"})
    assert "only one of them" in fault["detail"]
    renamed = tiny(layers=[{"name": "up", "parameters": 4096}, {"name": "left", "parameters": 4096}])
    pointers = [fault["pointer"] for fault in faults({"allocation_id": plan["id"]}, profile=renamed)]
    assert pointers
    assert all(pointer.startswith("/second/allocation_id") for pointer in pointers)


def test_a_stored_plan_with_fusions_is_compared(http: httpx2.Client) -> None:
    fused = {"layers": ["up", "down"], "resources": {"weight_bytes": [4300, 8400]}, "name": "pair"}
    profile = tiny(fusions=[fused])
    response = http.post("/v1/allocations", json={"profile": profile, "budgets": {"weight_bytes": 4310}})
    assert response.status_code == 200, response.text
    plan = response.json()
    assert plan["fusions"] == ["pair"]
    body = {"profile": profile, "first": {"allocation_id": plan["id"]}, "second": {}}
    found = http.post("/v1/comparisons", json=body).json()
    assert found["first"]["totals"]["weight_bytes"] == 4300
