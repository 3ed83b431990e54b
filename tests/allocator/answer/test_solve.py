from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from allocator import CertificateError, InvalidInputError, Status, solve, solvers
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers.outcome import Effort, Outcome
from tests.allocator.profiles import profile_json


def test_answers_with_plan_proof_and_provenance() -> None:
    allocation = solve(profile_json(), objective="kl", budgets={"effective_bits": 4, "latency_us": 33})
    assert allocation.status is Status.OPTIMAL
    assert allocation.advice.startswith("Proved")
    assert allocation.assignment == dict.fromkeys(("block.0.up", "block.0.down", "head"), "int4")
    assert allocation.objective == allocation.bound == pytest.approx(1.0)
    assert allocation.gap == 0
    assert allocation.usage["effective_bits"].used == 4
    assert allocation.usage["latency_us"].slack == 2
    assert allocation.certificate is not None
    assert allocation.certificate.violations == ()
    assert allocation.solver.name == "exact"
    assert len(allocation.profile_sha256) == 64


def test_shadow_prices_say_what_one_more_unit_buys() -> None:
    allocation = solve(profile_json(), budgets={"weight_bytes": 160})
    # At the margin head goes from int4 to int8 for 80 bytes and 0.4, the others give at most 0.3 for 40.
    assert allocation.usage["weight_bytes"].shadow_price == pytest.approx(0.3 / 40)
    loose = solve(profile_json(), budgets={"weight_bytes": 10**6})
    assert loose.usage["weight_bytes"].shadow_price == 0


def test_an_impossible_budget_comes_with_what_is_achievable() -> None:
    allocation = solve(profile_json(), budgets={"effective_bits": 1.5, "latency_us": 1000})
    assert allocation.status is Status.INFEASIBLE
    assert allocation.assignment is allocation.objective is allocation.certificate is None
    assert (allocation.achievable["effective_bits"].least, allocation.achievable["effective_bits"].most) == (
        2,
        8,
    )
    assert allocation.achievable["effective_bits"].limit == 1.5
    assert allocation.achievable["latency_us"].least == 29


def test_budgets_that_only_clash_together_say_so() -> None:
    swapped = profile_json()["resources"] | {"heat": {"values": [[8, 4, 1]] * 3}}
    allocation = solve(profile_json(resources=swapped), budgets={"weight_bytes": 100, "heat": 10})
    assert allocation.status is Status.INFEASIBLE
    heat, stored = allocation.achievable["heat"], allocation.achievable["weight_bytes"]
    assert heat.least <= heat.limit
    assert stored.least <= stored.limit
    assert heat.least_with_others is not None
    assert stored.least_with_others is not None
    assert heat.least_with_others > heat.limit
    assert stored.least_with_others > stored.limit
    relaxed = solve(
        profile_json(resources=swapped), budgets={"weight_bytes": 100, "heat": heat.least_with_others}
    )
    assert relaxed.status is Status.OPTIMAL
    tightened = {"weight_bytes": 100, "heat": heat.least_with_others - 0.5}
    assert solve(profile_json(resources=swapped), budgets=tightened).status is Status.INFEASIBLE


def test_an_infeasible_demand_says_the_most_that_can_be_reached() -> None:
    costs = {"kl": {"values": [[1, 1, 1]] * 3}, "sqnr": {"values": [[10, 20, 30]] * 3, "better": "higher"}}
    allocation = solve(profile_json(costs=costs), objective="kl", budgets={"sqnr": 100})
    assert allocation.achievable["sqnr"].most == 90
    assert allocation.achievable["sqnr"].most_with_others == 90


def test_a_resource_can_be_the_objective_and_a_cost_the_budget() -> None:
    allocation = solve(profile_json(), objective="weight_bytes", budgets={"kl": 1.0})
    assert allocation.objective == 160
    assert allocation.usage["kl"].used == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": {}}, "/budget: unknown field 'budget'"),
        ({"gap": 1.0}, "/gap: .*less than 1"),
        ({"gap": -0.1}, "/gap: .*greater than or equal to 0"),
        ({"time_limit_s": 0.0}, "/time_limit_s: .*greater than 0"),
        ({"budgets": {"kl": None}}, "/budgets/kl"),
        ({"budgets": {"kl": float("nan")}}, "/budgets/kl"),
        ({"objective": {}}, "/objective"),
    ],
)
def test_refuses_requests(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        solve(profile_json(), **fields)


def test_never_hands_out_a_plan_that_contradicts_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    def liar(problem: Problem, effort: Effort) -> Outcome:
        del effort
        return Outcome(Status.OPTIMAL, np.full(problem.units, 2), 0.0)

    monkeypatch.setattr(solvers.Entry, "load", lambda _: liar)
    with pytest.raises(
        CertificateError, match="'exact' gave a plan that breaks the request: weight_bytes: 320 byte"
    ):
        solve(profile_json(), budgets={"weight_bytes": 100})


def test_a_plan_without_a_proof_is_never_called_optimal() -> None:
    allocation = solve(profile_json(), budgets={"weight_bytes": 200}, solver="uniform")
    assert allocation.status is Status.FEASIBLE
    assert allocation.bound is not None
    assert allocation.objective is not None
    assert allocation.gap == pytest.approx((allocation.objective - allocation.bound) / allocation.objective)
    best = solve(profile_json(), budgets={"weight_bytes": 200})
    assert best.objective is not None
    assert allocation.bound <= best.objective


def test_uniform_without_a_fitting_format_says_no_solution_rather_than_infeasible() -> None:
    resources = {"b": {"values": [[1, 2, 9], [9, 1, 2], [2, 9, 1]]}}
    allocation = solve(profile_json(resources=resources), budgets={"b": 3}, solver="uniform")
    assert allocation.status is Status.NO_SOLUTION
    assert solve(profile_json(resources=resources), budgets={"b": 3}).status is Status.OPTIMAL


def test_what_an_infeasible_request_could_reach_is_searched_in_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float | None] = []
    module = import_module("allocator.answer.report")

    def nothing(_: object, deadline: Deadline) -> dict[str, object]:
        asked.append(deadline.left_s())
        return {}

    monkeypatch.setattr(module, "achievable", nothing)
    plan = solve(profile_json(), objective="kl", budgets={"weight_bytes": 1}, time_limit_s=60.0)
    assert plan.status is Status.INFEASIBLE
    assert len(asked) == 1
    assert asked[0] is not None
    assert 50.0 < asked[0] <= 60.0 - plan.solver.seconds
