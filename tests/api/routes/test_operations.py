"""Fronts, reasons and comparisons over HTTP: the library's numbers, and faults that point into the body."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from allocator import explain, frontier, load_profile, plan_after, solve, solve_many
from allocator.analysis.rank_agreement import agreement
from allocator.answer.certificate import totals
from tests.api.helpers import comparable, problem_of, random_profile, tiny

BIG = random_profile(30)
ASKED: dict[str, Any] = {"profile": BIG, "objective": "kl"}


def post(http: httpx2.Client, path: str, **body: Any) -> dict[str, Any]:
    response = http.post(f"/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_front_is_the_librarys(http: httpx2.Client) -> None:
    found = post(http, "frontiers", **ASKED, resource="latency")
    front = frontier(BIG, "latency", objective="kl")
    for name in ("start", "step", "layer", "format", "spend", "objective", "price"):
        assert found[name] == getattr(front, name).tolist(), name
    assert found["knee"] == front.knee
    assert found["layers"] == list(front.layers)
    assert found["profile_sha256"] == load_profile(BIG).digest()
    assert found["exact"] == [] and found["baselines"] == {}  # noqa: PT018 - one thought


def test_the_changes_of_a_front_rebuild_every_supported_plan(http: httpx2.Client) -> None:
    # What the page does in the browser, in Python.
    found = post(http, "frontiers", **ASKED)
    front = frontier(BIG, objective="kl")
    plan = list(found["start"])
    at = 0
    for steps in range(len(found["spend"])):
        while at < len(found["step"]) and found["step"][at] <= steps:
            plan[found["layer"][at]] = found["format"][at]
            at += 1
        named = {layer: found["formats"][column] for layer, column in zip(found["layers"], plan, strict=True)}
        assert named == plan_after(front, steps)
        assert totals(load_profile(BIG), named)["kl"] == pytest.approx(found["objective"][steps])


def test_exact_points_and_baselines_are_solved_at_the_same_budgets(http: httpx2.Client) -> None:
    amounts = [300_000.0, "800 KB"]
    methods = ["uniform", "greedy"]
    found = post(http, "frontiers", **ASKED, points=amounts, baselines=methods)
    budgets = [{"weight_bytes": 300_000.0}, {"weight_bytes": 800_000.0}]
    expected = solve_many(BIG, budgets, objective="kl")
    assert list(map(comparable, found["exact"])) == list(map(comparable, expected))
    for method in methods:
        plans = solve_many(BIG, budgets, objective="kl", solver=method)
        reached = [
            {
                "budget": budget["weight_bytes"],
                "spend": plan.usage["weight_bytes"].used,
                "objective": plan.objective,
            }
            for budget, plan in zip(budgets, plans, strict=True)
            if plan.objective is not None
        ]
        assert found["baselines"][method] == reached
        assert reached


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"resource": "byte"}, "/resource", "unknown budget 'byte'"),
        ({"points": -1}, "/points", "greater than or equal to 0"),
        ({"points": 65}, "/points", "less than or equal to 64"),
        ({"points": ["many"]}, "/budgets/0/weight_bytes", "many"),
        ({"budgets": {"latency": 5}}, "/points", "ask for exact points too"),
        ({"points": 2, "baselines": ["magic"]}, "/solver", "unknown solver 'magic'"),
        ({"objective": "kk"}, "/objective", "unknown objective 'kk'"),
        ({"profile": tiny(layers=[])}, "/profile/layers", "at least 1 item"),
    ],
)
def test_faults_of_a_front_point_into_the_body(
    http: httpx2.Client, changes: dict[str, Any], pointer: str, words: str
) -> None:
    body = problem_of(http.post("/v1/frontiers", json=ASKED | changes), 422)
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert words in body["errors"][0]["detail"]


def with_stderr() -> dict[str, Any]:
    noisy: dict[str, Any] = json.loads(json.dumps(BIG))
    table = noisy["costs"]["kl"]
    table["stderr"] = [[abs(value) / 3 for value in row] for row in table["values"]]
    return noisy


def test_an_explanation_is_the_librarys(http: httpx2.Client) -> None:
    fields: dict[str, Any] = {
        "objective": "kl",
        "budgets": {"effective_bits": 4.25},
        "layers": ["layer.1*"],
        "resamples": 20,
        "seed": 4,
    }
    found = post(http, "explanations", profile=with_stderr(), **fields)
    expected = json.loads(explain(with_stderr(), **fields).model_dump_json())
    assert comparable(found.pop("allocation")) == comparable(expected.pop("allocation"))
    assert found == expected
    assert len(found["reasons"]) == 11
    assert found["stability"]["resamples"] == 20


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"layers": ["layer.1", "laier.2"]}, "/layers/1", "unknown layer or glob 'laier.2'"),
        ({"resamples": 3}, "/objective", "have no standard errors"),
        ({"resamples": 5000}, "/resamples", "less than or equal to 2000"),
        ({"resamples": True}, "/resamples", "valid integer"),
        ({"pin": {"laier.2": "int4-g64"}}, "/pin/laier.2", "unknown layer or glob"),
    ],
)
def test_faults_of_an_explanation_point_into_the_body(
    http: httpx2.Client, changes: dict[str, Any], pointer: str, words: str
) -> None:
    body = problem_of(http.post("/v1/explanations", json=ASKED | changes), 422)
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert words in body["errors"][0]["detail"]


def test_two_tables_are_compared_by_the_plans_they_lead_to(http: httpx2.Client) -> None:
    budgets = {"effective_bits": 4.25}
    found = post(
        http,
        "comparisons",
        profile=BIG,
        budgets=budgets,
        first={"objective": "kl"},
        second={"objective": "fisher"},
    )
    profile = load_profile(BIG)
    plans = {name: solve(profile, objective=name, budgets=budgets) for name in ("kl", "fisher")}
    for side, name in (("first", "kl"), ("second", "fisher")):
        plan = plans[name]
        assert plan.assignment is not None
        assert found[side]["assignment"] == plan.assignment
        assert found[side]["totals"] == totals(profile, plan.assignment)
        assert comparable(found[side]["allocation"]) == comparable(plan)
    different = [
        name
        for name in found["first"]["assignment"]
        if plans["kl"].assignment[name] != plans["fisher"].assignment[name]
    ]  # type: ignore[index]
    assert [layer["layer"] for layer in found["layers"]] == different
    assert found["alike"] == 30 - len(different) < 30
    assert found["agreement"] == vars(agreement("fisher", profile.costs["fisher"], profile.costs["kl"]))


def test_a_plan_of_ones_own_is_compared_with_the_best(http: httpx2.Client) -> None:
    own = {"up": "int4-g64", "down": "int8-g64"}
    asked = {"profile": tiny(), "budgets": {"weight_bytes": 6400}}
    found = post(http, "comparisons", **asked, first={"assignment": own}, second={})
    assert found["first"] == {
        "assignment": own,
        "totals": {"kl": 0.0312, "weight_bytes": 6400},
        "allocation": None,
    }
    assert found["second"]["assignment"] == {"up": "int8-g64", "down": "int4-g64"}
    assert [layer["layer"] for layer in found["layers"]] == ["up", "down"]
    assert found["agreement"] is None


def test_a_side_without_a_plan_has_nothing_to_compare(http: httpx2.Client) -> None:
    found = post(http, "comparisons", profile=tiny(), budgets={"weight_bytes": 1}, first={}, second={})
    assert found["first"]["assignment"] is None
    assert found["first"]["allocation"]["status"] == "infeasible"
    assert (found["layers"], found["alike"]) == ([], None)


@pytest.mark.parametrize(
    ("second", "pointer", "words"),
    [
        ({"objective": "kk"}, "/second/objective", "unknown objective 'kk'"),
        ({"assignment": {"up": "int4-g64"}}, "/second/assignment", "got none for 'down'"),
        ({"assignment": {"up": "int4-g64", "down": "x"}}, "/second/assignment/down", "unknown format 'x'"),
        ({"assignment": {"up": "int4-g64"}, "objective": "kl"}, "/second", "or an objective, only one"),
        ({"fusions": ["qk"]}, "/second", "fusions go with an assignment"),
    ],
)
def test_faults_of_a_side_point_into_it(
    http: httpx2.Client, second: dict[str, Any], pointer: str, words: str
) -> None:
    asked = {"profile": tiny(), "budgets": {"weight_bytes": 6400}, "first": {}, "second": second}
    body = problem_of(http.post("/v1/comparisons", json=asked), 422)
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert words in body["errors"][0]["detail"]
