from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from allocator.knapsack.problem import masked_cost
from allocator.knapsack.reductions import Spread, fitting_options, fix_single_options
from tests.allocator.problems import brute_force, make, random_problem


def test_fixed_units_leave_with_their_spend_and_cost() -> None:
    problem = make([[5, 3], [7, 1], [2, 4]], [[[1, 2], [3, 4], [5, 6]]], 12)
    smaller = fix_single_options(problem, np.array([[True, True], [False, True], [True, False]]))
    assert smaller.problem.cost.tolist() == [[5, 3]]
    assert smaller.problem.limit.tolist() == [12 - 4 - 5]
    assert smaller.fixed_cost == 1 + 2
    assert smaller.undo(np.array([1])).tolist() == [1, 1, 0]


def test_something_is_left_where_everything_is_fixed() -> None:
    problem = make([[5, 3], [7, 1]], [[[1, 2], [3, 4]]], 12)
    smaller = fix_single_options(problem, np.array([[True, False], [False, True]]))
    assert smaller.problem.units == 1
    assert smaller.undo(np.array([0])).tolist() == [0, 1]


def test_the_optimum_survives_reduction_and_undo() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        problem = random_problem(rng, limits=2)
        keep = problem.available.copy()
        held = rng.random(problem.units) < 0.5
        keep[held] = masked_cost(problem)[held] <= masked_cost(problem)[held].min(axis=1, keepdims=True)
        smaller = fix_single_options(problem, keep)
        best = brute_force(smaller.problem)
        if best is not None:
            choice = smaller.undo(np.array(best.choice))
            assert problem.feasible(choice)
            assert np.isclose(problem.objective(choice), best.objective + smaller.fixed_cost)


@pytest.mark.parametrize("limits", [0, 1, 2, 3])
@pytest.mark.thorough
def test_an_option_left_out_is_in_no_plan(limits: int) -> None:
    rng = np.random.default_rng(limits)
    gone = 0
    for _ in range(60):
        problem = random_problem(rng, limits=limits)
        fitting = fitting_options(problem)
        gone += int((problem.available & ~fitting).sum())
        best = brute_force(problem)
        if not fitting.any(axis=1).all():
            assert best is None
            continue
        assert best == brute_force(replace(problem, available=fitting))
    assert gone or limits == 0


@pytest.mark.parametrize("limits", [0, 1, 2, 3])
def test_the_spread_tells_whether_every_option_fits(limits: int) -> None:
    rng = np.random.default_rng(limits)
    seen = set()
    for _ in range(60):
        problem = random_problem(rng, limits=limits)
        spread = Spread.of(problem)
        for share in (0.5, 0.9, 1.0, 1.5):
            tighter = replace(problem, limit=np.floor(share * problem.limit))
            every = np.array_equal(fitting_options(tighter), problem.available)
            assert spread.fits(tighter.limit) == every
            seen.add(every)
    assert seen == ({True} if limits == 0 else {True, False})
