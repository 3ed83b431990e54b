from __future__ import annotations

import numpy as np

from allocator import Request, Status, load_profile, solve
from allocator.knapsack.compile import compile_problem
from tests.allocator.profiles import profile_json, with_units


def test_units_add_up_and_keep_the_order_of_their_first_layer() -> None:
    profile = load_profile(profile_json(layers=with_units("u", None, "u")))
    compiled = compile_problem(profile, Request(budgets={"weight_bytes": 100}))
    assert compiled.set_of_layer.tolist() == [0, 1, 0]
    assert compiled.problem.cost[0].tolist() == [2.9, 0.8, 0.1]
    assert compiled.problem.spend[0, 0].tolist() == [60, 120, 240]


def test_the_constant_is_taken_off_the_limit() -> None:
    compiled = compile_problem(load_profile(profile_json()), Request(budgets={"latency_us": 30}))
    assert compiled.problem.limit[0] == 20 + 30e-9


def test_limits_on_whole_tables_are_rounded_down() -> None:
    compiled = compile_problem(load_profile(profile_json()), Request(budgets={"weight_bytes": 100.9}))
    assert compiled.problem.limit[0] == 100


def test_two_budgets_on_one_table_are_one_row_with_the_tighter_limit() -> None:
    request = Request(budgets={"weight_bytes": 130, "effective_bits": 3})
    compiled = compile_problem(load_profile(profile_json()), request)
    assert compiled.problem.limit.tolist() == [120]
    allocation = solve(profile_json(), budgets=request.budgets)
    assert allocation.usage["weight_bytes"].used == allocation.usage["effective_bits"].used * 320 / 8


def test_a_demand_becomes_a_negated_limit() -> None:
    costs = {"sqnr": {"values": [[10, 20, 30]] * 3, "better": "higher"}}
    profile = profile_json(costs=costs)
    allocation = solve(profile, objective="weight_bytes", budgets={"sqnr": 65})
    assert allocation.usage["sqnr"].at_least
    assert allocation.usage["sqnr"].used >= 65
    stored = profile["resources"]["weight_bytes"]["values"]
    plans = [plan for plan in np.ndindex(3, 3, 3) if 10 * sum(plan) + 30 >= 65]
    assert allocation.objective == min(
        sum(row[column] for row, column in zip(stored, plan, strict=True)) for plan in plans
    )


def test_tables_where_higher_is_better_are_maximised_and_shown_as_they_are() -> None:
    costs = {"sqnr": {"values": [[10, 20, 30], [10, 25, 30], [10, 21, 30]], "better": "higher"}}
    allocation = solve(profile_json(costs=costs), budgets={"weight_bytes": 120})
    assert allocation.objective == 55  # the second layer gains most per byte
    assert allocation.bound == 55


def test_a_maximum_forbids_options_rather_than_adding_up() -> None:
    peak = {"peak": {"values": [[1, 2, 4], [1, 2, 4], [3, 5, 9]], "combine": "max", "constant": 1}}
    allocation = solve(profile_json(resources=peak), budgets={"peak": 5})
    assert allocation.assignment == {"block.0.up": "int8", "block.0.down": "int8", "head": "int2"}
    assert allocation.usage["peak"].used == 5


def test_a_maximum_that_nothing_meets_is_infeasible_rather_than_an_error() -> None:
    peak = {"peak": {"values": [[1, 2, 4], [1, 2, 4], [3, 5, 9]], "combine": "max"}}
    allocation = solve(profile_json(resources=peak), budgets={"peak": 2})
    assert allocation.status is Status.INFEASIBLE
    assert (allocation.achievable["peak"].least, allocation.achievable["peak"].most) == (3, 9)
    assert allocation.achievable["peak"].least_with_others == 3


def test_weighted_objectives_add_up() -> None:
    allocation = solve(
        profile_json(), objective={"kl": 2.0, "latency_us": 0.01}, budgets={"weight_bytes": 10**6}
    )
    assert allocation.assignment is not None
    assert allocation.objective == 2.0 * 0.1 + 0.01 * (8 + 8 + 12.5 + 10)
