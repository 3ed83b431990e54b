"""Published cases with known answers, see the README of the folder they are read from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from allocator import Status, solve

Published = Callable[[str], Any]


def bits(profile: dict[str, Any], assignment: dict[str, str] | None) -> list[float]:
    assert assignment is not None
    return [profile["formats"][name]["weight_bits"] for name in assignment.values()]


@pytest.mark.parametrize("solver", ["exact", "highs", "pulp", "cpsat"])
def test_hawq_plans_are_reproduced_exactly(published: Published, solver: str) -> None:
    case = published("hawq_resnet18.json")
    assert len(case["requests"]) == 9
    for request in case["requests"]:
        expected = request["expected"]
        plan = solve(
            case["profile"], objective=request["objective"], budgets=request["budgets"], solver=solver
        )
        assert plan.status is Status.OPTIMAL
        assert bits(case["profile"], plan.assignment) == expected["optimal_bits"], request["name"]
        assert plan.objective == pytest.approx(expected["optimal_objective"], rel=1e-12)


def test_hawq_answers_under_three_budgets_are_reproduced_exactly(published: Published) -> None:
    case = published("hawq_resnet18.json")
    answers = {name: item for name, item in case["multi_constraint"].items() if not name.startswith("notie_")}
    assert len(answers) == 27
    for name, expected in answers.items():
        limits = {
            "model_mib": expected["limits"]["size"],
            "bops": expected["limits"]["bops"],
            "latency": expected["limits"]["latency"],
        }
        plan = solve(case["profile"], objective="hessian", budgets=limits)
        assert plan.status is Status.OPTIMAL
        assert bits(case["profile"], plan.assignment) == expected["bits"], name
        assert plan.objective == pytest.approx(expected["omega"], rel=1e-12)


def test_hawq_answers_without_ties_are_reproduced_exactly(published: Published) -> None:
    case = published("hawq_resnet18.json")
    layers = [
        {key: value for key, value in layer.items() if key != "unit"} for layer in case["profile"]["layers"]
    ]
    profile = case["profile"] | {"layers": layers}
    answers = {name: item for name, item in case["multi_constraint"].items() if name.startswith("notie_")}
    assert len(answers) == 9
    for request in case["requests"]:
        expected = answers[f"notie_{request['name']}"]
        plan = solve(profile, objective=request["objective"], budgets=request["budgets"])
        assert bits(profile, plan.assignment) == expected["bits"]
        assert plan.objective == pytest.approx(expected["omega"], rel=1e-12)


def test_hawq_front_of_size_and_cost_is_reproduced_exactly(published: Published) -> None:
    case = published("hawq_resnet18.json")
    profile, expected = case["profile"], case["pareto_size_omega"]
    assert len(expected) == 29
    front = []
    budgets: dict[str, float] = {}
    while True:
        # Of the plans with the least cost the smallest, then the least cost in less space than that.
        plan = solve(profile, objective=["hessian", "model_mib"], budgets=budgets)
        if plan.status is Status.INFEASIBLE:
            break
        assert plan.status is Status.OPTIMAL
        size = plan.then["model_mib"]
        front.append([size, plan.objective, "".join(f"{item:g}" for item in bits(profile, plan.assignment))])
        budgets = {"model_mib": size * (1 - 1e-6)}  # sizes are at least 2⁻⁹ MiB apart
    front.reverse()
    assert [(size, code) for size, _, code in front] == [(size, code) for size, _, code in expected]
    assert [cost for _, cost, _ in front] == pytest.approx([cost for _, cost, _ in expected], rel=1e-12)


def test_mxq_objectives_are_met_or_beaten(published: Published) -> None:
    case = published("mxq_llama2_7b.json")
    assert len(case["requests"]) == 13
    for request in case["requests"]:
        known = request["expected"]["published_objective"]
        plan = solve(case["profile"], objective=request["objective"], budgets=request["budgets"])
        assert plan.status is Status.OPTIMAL
        assert plan.objective is not None
        assert known * (1 - 1e-4) <= plan.objective <= known * (1 + 1e-9), request["name"]


def test_qpalette_optima_are_proved(published: Published) -> None:
    case = published("qpalette_llama31_8b.json")
    assert len(case["requests"]) == 4
    for request in case["requests"]:
        expected = request["expected"]
        plan = solve(case["profile"], objective=request["objective"], budgets=request["budgets"])
        assert plan.status is Status.OPTIMAL
        assert plan.objective == pytest.approx(expected["optimum"], rel=1e-9)
        assert plan.objective > expected["gaussian_rate_distortion_bound"]


def test_the_hardest_qpalette_budget_is_proved_with_little_work(published: Published) -> None:
    case = published("qpalette_llama31_8b.json")
    (request,) = (item for item in case["requests"] if item["name"] == "3.25 bits")
    plan = solve(case["profile"], objective=request["objective"], budgets=request["budgets"])
    assert (plan.status, plan.gap, plan.bound) == (Status.OPTIMAL, 0, plan.objective)
    assert plan.objective == pytest.approx(0.06707456272158803, rel=1e-9)
    assert plan.solver.work["core_units"] <= 150
    assert plan.solver.work["peak_states"] <= 2000
