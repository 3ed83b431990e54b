"""Scores that stand for "never" or "always" (10¹⁰ is what ModelOpt clamps to) must not hide the scores that matter."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.bounds.dual import maximise_dual
from allocator.contract.status import Status
from allocator.knapsack.deadline import NEVER
from allocator.knapsack.problem import Problem
from allocator.solvers import SOLVERS
from allocator.solvers.exact.branching import branch_and_bound
from allocator.solvers.narrowing import Narrowed, cost_range, narrow
from allocator.solvers.outcome import Effort
from tests.allocator.problems import brute_force, make, random_problem

PROVING = ("exact", "highs", "pulp", "cpsat")


def blown_up(rng: np.random.Generator, score: float, limits: int) -> Problem:
    """Six units with costs near 1e-3, some of them replaced by the score."""
    cost = rng.random((6, 3)) * 1e-3
    cost[rng.random((6, 3)) < 0.3] = score
    spend = rng.integers(1, 9, (limits, 6, 3)).astype(float)
    low, high = spend.min(axis=2).sum(axis=1), spend.max(axis=2).sum(axis=1)
    return make(cost, spend, np.floor(low + rng.uniform(0.2, 0.8) * (high - low)))


@pytest.mark.parametrize("limits", [1, 2, 9])
@pytest.mark.parametrize("score", [1e6, 1e10, 1e12, 1e15, -1e10])
@pytest.mark.parametrize("solver", PROVING)
@pytest.mark.thorough
def test_the_plan_is_best_in_what_is_left_beside_the_blown_up_scores(
    solver: str, score: float, limits: int
) -> None:
    rng = np.random.default_rng(limits)
    run = SOLVERS[solver].load()
    for trial in range(4):
        problem = blown_up(rng, score, limits)
        best, outcome = brute_force(problem), run(problem, Effort())
        if best is None:
            assert outcome.status is Status.INFEASIBLE, trial
            continue
        assert outcome.status is Status.OPTIMAL, trial
        assert outcome.choice is not None
        assert _apart(problem, outcome.choice, np.array(best.choice)) <= 1e-12, trial


def _apart(problem: Problem, plan: np.ndarray, best: np.ndarray) -> float:
    """How much worse a plan is, added up where the two differ, so that what they share cannot round it away."""
    rows = np.flatnonzero(plan != best)
    return float(problem.cost[rows, plan[rows]].sum() - problem.cost[rows, best[rows]].sum())


def test_what_a_known_plan_rules_out_no_longer_sets_the_scale() -> None:
    problem = make(
        [[1e10, 2.0, 1.0], [1e10, 3.0, 0.5]], [[[1, 2, 3], [1, 2, 3]], [[1, 1, 1], [2, 2, 2]]], [5, 9]
    )
    known = Narrowed(problem, maximise_dual(problem), np.array([1, 1]))
    narrowed = narrow(known, NEVER)
    assert cost_range(problem) > 1e9
    assert cost_range(narrowed.problem) <= 2.5
    assert narrowed.plan is not None
    assert problem.objective(narrowed.plan) == brute_force(problem).objective  # type: ignore[union-attr]


@pytest.mark.parametrize("limits", [2, 3, 5])
def test_branching_alone_proves_random_problems(limits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.solvers.exact.branching._LEAF_STATES", 1)
    rng = np.random.default_rng(limits)
    branched = 0
    for trial in range(60):
        problem = random_problem(rng, limits=limits)
        best = brute_force(problem)
        found = branch_and_bound(problem, maximise_dual(problem), None, Effort())
        branched += found.work["branches"] > 1
        if best is None:
            assert found.choice is None, trial
            assert found.bound == np.inf, trial
        else:
            assert found.choice is not None, trial
            assert found.bound == pytest.approx(best.objective, rel=1e-9, abs=1e-9), trial
    assert branched


def test_branching_stops_with_the_bound_that_it_proved() -> None:
    rng = np.random.default_rng(3)
    problem = make(rng.random((40, 4)), rng.random((6, 40, 4)), np.full(6, 16.0))
    dual = maximise_dual(problem)
    early = branch_and_bound(problem, dual, None, Effort(node_limit=3))
    later = branch_and_bound(problem, dual, None, Effort(node_limit=30))
    assert early.work["branches"] == 3
    assert dual.bound <= early.bound <= later.bound
    assert later.choice is None or later.bound <= problem.objective(later.choice)
