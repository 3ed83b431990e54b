from __future__ import annotations

import numpy as np

from allocator.contract.status import Status
from allocator.solvers.baselines import greedy, uniform
from allocator.solvers.baselines.local_search import improve, repair
from allocator.solvers.outcome import Effort
from tests.allocator.problems import NAN, make, random_problem


def test_greedy_buys_the_best_gain_per_unit_spent_first() -> None:
    # Gains per unit: 10 / 4 for the first unit, 6 / 2 for the second, which leaves no room for the first.
    outcome = greedy.solve(make([[10, 0], [6, 0]], [[[0, 4], [0, 2]]], 5), Effort())
    assert outcome.choice is not None
    assert outcome.choice.tolist() == [0, 1]


def test_greedy_goes_on_after_a_step_that_does_not_fit() -> None:
    outcome = greedy.solve(make([[10, 0], [6, 0], [1, 0]], [[[0, 4], [0, 2], [0, 3]]], 5), Effort())
    assert outcome.choice is not None
    assert outcome.choice.tolist() == [0, 1, 1]


def test_greedy_takes_what_costs_nothing_at_once() -> None:
    outcome = greedy.solve(make([[10, 3, 0]], [[[2, 2, 9]]], 5), Effort())
    assert outcome.choice is not None
    assert outcome.choice.tolist() == [1]


def test_uniform_picks_the_best_format_that_fits() -> None:
    outcome = uniform.solve(make([[9, 4, 1], [8, 5, 0]], [[[1, 2, 4], [1, 2, 4]]], 5), Effort())
    assert outcome.choice is not None
    assert outcome.choice.tolist() == [1, 1]


def test_uniform_gives_a_layer_without_the_format_its_nearest() -> None:
    # Bits are 1, 2, 4, 8. The second unit lacks 4 bits; 2 and 8 are two and four away.
    problem = make([[9, 4, 1, 0], [8, 5, NAN, 0]], [[[1, 2, 4, 8], [1, 2, 0, 8]]], 99)
    assert uniform.uniform_plan(problem, 2).tolist() == [2, 1]
    # It lacks 2 bits too: 1 is one away, 4 is two away.
    problem = make([[9, 4, 1, 0], [8, NAN, 1, 0]], [[[1, 2, 4, 8], [1, 0, 4, 8]]], 99)
    assert uniform.uniform_plan(problem, 1).tolist() == [1, 0]


def test_uniform_without_a_fitting_format_has_no_solution() -> None:
    outcome = uniform.solve(make([[1, 2], [1, 2]], [[[1, 3], [3, 1]]], 2), Effort())
    assert (outcome.status, outcome.choice) == (Status.NO_SOLUTION, None)


def test_repair_reaches_the_limits_and_improve_never_leaves_them() -> None:
    rng = np.random.default_rng(0)
    repaired = 0
    for _ in range(200):
        problem = random_problem(rng, limits=2)
        cheapest = np.where(problem.available, problem.cost, np.inf).argmin(axis=1)
        reduced = np.where(problem.available, problem.cost - problem.cost.min(), np.inf)
        plan = repair(problem, cheapest, reduced)
        if problem.feasible(plan):
            repaired += 1
            better = improve(problem, plan)
            assert problem.feasible(better)
            assert problem.objective(better) <= problem.objective(plan)
    assert repaired > 100


def test_improve_stops_at_a_plan_that_no_single_move_betters() -> None:
    problem = make([[10, 0], [9, 0]], [[[0, 3], [0, 2]]], 3)
    assert improve(problem, np.array([0, 0])).tolist() == [1, 0]
