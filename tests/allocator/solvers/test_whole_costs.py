"""Integers are compared as integers, however large: no plan that is one unit worse is called optimal."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from allocator import Status, solve
from allocator.knapsack.components import connected_components
from allocator.knapsack.problem import Problem
from allocator.solvers import SOLVERS, Effort
from allocator.solvers.outcome import found
from tests.allocator.problems import make

#: A tolerance of 1e-12 of the sum is two units here, and one of 1e-9 two thousand.
LARGE = 2 * 10**12


def least_cost(problem: Problem) -> int | None:
    """The slow, obvious answer in Python's integers."""
    best = None
    cost, spend, limit = problem.cost.astype(int).tolist(), problem.spend.tolist(), problem.limit.tolist()
    options = [np.flatnonzero(row).tolist() for row in problem.available]
    for plan in product(*options):
        if all(
            sum(row[u][o] for u, o in enumerate(plan)) <= most for row, most in zip(spend, limit, strict=True)
        ):
            total = sum(cost[u][o] for u, o in enumerate(plan))
            best = total if best is None else min(best, total)
    return best


def draw(rng: np.random.Generator) -> Problem:
    """Costs up to 9e15 in all, few units apart or near a multiple of a spend; parts, bands and large spends too."""
    units, options, limits = int(rng.integers(2, 6)), int(rng.integers(2, 4)), int(rng.integers(1, 4))
    size = int(rng.choice([1e9, 1e12, LARGE, 1e14, 9e15 // units]))
    spend = rng.integers(0, 8, (limits, units, options)).astype(float)
    cost = size - rng.integers(0, 4, (units, options))
    if rng.random() < 0.6:
        cost = size // 8 * (8 - spend[0].astype(int)) + rng.integers(0, 5, (units, options))
    if rng.random() < 0.3:
        spend = spend * float(rng.choice([1e6, 1e12])) + rng.integers(0, 3, spend.shape)
    if rng.random() < 0.5 and limits > 1:
        spend[0, : units // 2] = spend[1:, units // 2 :] = 0.0
    low, high = spend.min(axis=2).sum(axis=1), spend.max(axis=2).sum(axis=1)
    limit = np.floor(low + rng.uniform(0, 1, limits) * (high - low))
    if rng.random() < 0.3:
        spend = np.concatenate([spend, -spend[:1]])
        limit = np.append(limit, -np.floor(limit[0] * rng.uniform(0.7, 1)))
    return make(cost, spend, limit)


@pytest.mark.parametrize("solver", ["auto", "exact", "highs", "pulp", "cpsat"])
def test_the_last_unit_counts_at_any_size(solver: str) -> None:
    rng, parts = np.random.default_rng(5), 0
    for trial in range({"pulp": 10, "auto": 60, "exact": 60}.get(solver, 30)):
        problem = draw(rng)
        expected, outcome = least_cost(problem), SOLVERS.find(solver).load()(problem, Effort())
        parts += len(connected_components(problem)) > 1
        if expected is None:
            assert outcome.status is Status.INFEASIBLE, trial
            continue
        assert outcome.choice is not None, trial
        assert int(problem.objective(outcome.choice)) == expected, trial
        assert (outcome.status, int(outcome.bound)) == (Status.OPTIMAL, expected), trial
    assert parts > 0


def test_a_bound_proves_an_integer_only_where_less_than_one_is_left() -> None:
    problem = make([[LARGE, 0], [LARGE, 0]], [[[0, 1], [0, 1]]], [1])
    plan = np.array([0, 1])
    assert found(problem, plan, LARGE - 1.0).status is Status.FEASIBLE
    assert found(problem, plan, LARGE - 0.9).status is Status.OPTIMAL


@pytest.mark.parametrize(
    ("cost", "whole"),
    [
        ([[1, 2], [3, 4]], True),
        ([[1, 2.5], [3, 4]], False),
        ([[2.0**52, 0], [2.0**52 - 1, 0]], True),
        ([[2.0**52, 0], [2.0**52 + 1, 0]], False),
        ([[2.0**52, 0], [2.0**52 + 2, 0]], True),  # even numbers are exact up to twice as much
        ([[2.0**52, -(2.0**52) - 1], [0, 0]], False),  # a step is as large as both together
        ([[1, np.nan], [2, 3]], True),
    ],
)
def test_sums_are_exact_where_they_stay_below_two_to_the_53(cost: list[list[float]], whole: bool) -> None:
    assert make(cost, [[[1, 2], [1, 2]]], [3]).whole_cost is whole


def test_whole_spends_need_a_whole_limit() -> None:
    spend = [[[1, 2]], [[1, 2.5]], [[1, 2]]]
    assert make([[0, 1]], spend, [3, 3, 2.5]).whole_spend.tolist() == [True, False, False]


def test_no_unit_of_the_first_objective_is_given_up_for_the_second() -> None:
    profile = {
        "formats": {"a": {"weight_bits": 4}, "b": {"weight_bits": 8}},
        "layers": [{"name": "up"}, {"name": "down"}],
        "costs": {
            "first": {"values": [[LARGE, LARGE + 1], [LARGE, LARGE]]},
            "second": {"values": [[9, 0], [5, 0]]},
        },
    }
    plan = solve(profile, objective=["first", "second"])
    assert plan.assignment == {"up": "a", "down": "b"}
    assert plan.objective == 2 * LARGE
