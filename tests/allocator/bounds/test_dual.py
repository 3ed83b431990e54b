from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from allocator.bounds.dual import maximise_dual
from allocator.knapsack.problem import Problem
from tests.allocator.problems import LIBRARY, brute_force, make, random_problem


def relaxation(problem: Problem) -> float:
    """The linear relaxation by a general LP solver; its optimum is the maximum of the dual."""
    unit, option = np.nonzero(problem.available)
    one_each = np.zeros((problem.units, unit.size))
    one_each[unit, np.arange(unit.size)] = 1
    rows = problem.spend[:, unit, option]
    result = linprog(
        problem.cost[unit, option],
        A_ub=rows if problem.limits else None,
        b_ub=problem.limit if problem.limits else None,
        A_eq=one_each,
        b_eq=np.ones(problem.units),
        bounds=(0, 1),
    )
    return float(result.fun) if result.status == 0 else np.inf


@pytest.mark.parametrize("limits", [0, 1, 2, 3])
@pytest.mark.thorough
def test_reaches_the_optimum_of_the_linear_relaxation(limits: int) -> None:
    rng = np.random.default_rng(limits)
    for trial in range(100):
        problem = random_problem(rng, limits=limits)
        dual, expected = maximise_dual(problem), relaxation(problem)
        assert dual.bound == pytest.approx(expected, rel=1e-6, abs=1e-6), trial
        assert (dual.multipliers >= 0).all()


@pytest.mark.parametrize("name", LIBRARY)
def test_bounds_the_optimum_from_below(name: str) -> None:
    dual, best = maximise_dual(LIBRARY[name]), brute_force(LIBRARY[name])
    assert best is None or dual.bound <= best.objective + 1e-12 * max(1, abs(best.objective))


def test_one_limit_takes_few_evaluations() -> None:
    rng = np.random.default_rng(0)
    cost = np.sort(rng.random((2000, 8)), axis=1)[:, ::-1]
    spend = np.sort(rng.random((1, 2000, 8)), axis=2)
    dual = maximise_dual(make(cost, spend, [900.0]))
    assert dual.evaluations < 25


def test_the_choice_keeps_a_single_limit() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        problem = random_problem(rng, limits=1)
        dual = maximise_dual(problem)
        assert np.isposinf(dual.bound) or problem.feasible(dual.choice)
