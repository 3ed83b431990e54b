from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from allocator.bounds.dual import maximise_dual
from allocator.bounds.rate_law import fit_law
from allocator.contract.status import Status
from allocator.knapsack.problem import Problem
from allocator.solvers.baselines import relaxation as convex
from allocator.solvers.baselines.relaxation import relax
from allocator.solvers.outcome import Effort
from tests.allocator.bounds.test_rate_law import BITS, lawful
from tests.allocator.problems import NAN, brute_force, make, random_problem


def by_slsqp(problem: Problem) -> float:
    """The continuous optimum of a table that follows the law, by a general solver."""
    law = fit_law(problem)
    scale = problem.cost.max()
    result = minimize(
        lambda bits: float((law.coefficient * np.exp2(-law.theta * bits)).sum()) / scale,
        law.low + 0.01,
        jac=lambda bits: -law.theta * np.log(2) * law.coefficient * np.exp2(-law.theta * bits) / scale,
        bounds=list(zip(law.low, law.high, strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda bits: problem.limit - (law.base + law.slope * bits).sum(1),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 2000},
    )
    assert result.success
    return float(result.fun) * scale


@pytest.mark.parametrize("seed", range(10))
def test_one_limit_is_solved_as_a_general_solver_does(seed: int) -> None:
    problem = lawful(np.random.default_rng(seed))
    found = relax(problem, maximise_dual(problem), fit_law(problem))
    assert found.value == pytest.approx(by_slsqp(problem), rel=1e-6)
    assert found.lower_bound == pytest.approx(found.value, rel=1e-9)
    assert found.lower_bound <= found.value


@pytest.mark.parametrize("limits", [0, 1, 2, 3])
@pytest.mark.thorough
def test_under_the_law_the_continuous_value_bounds_every_plan(limits: int) -> None:
    for seed in range(50):
        problem = lawful(np.random.default_rng(seed), limits=limits)
        best, dual = brute_force(problem), maximise_dual(problem)
        found = relax(problem, dual, fit_law(problem))
        assert np.isfinite(found.lower_bound)
        if best is not None:
            assert found.lower_bound <= best.objective
            # Chords of a convex curve lie above it: what the solver reports instead is never weaker.
            assert found.lower_bound <= dual.bound + 1e-9 * abs(dual.bound)


def test_the_bound_allows_for_what_a_table_departs_from_the_law() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        # Equal units and room for four bits each: the real-valued optimum is a plan, so that nothing is to spare.
        cost = np.exp2(-2 * BITS) * (1 + rng.uniform(-2e-10, 2e-10, (4, 4)))
        spend = (3 + 5 * BITS) * (1 + rng.uniform(-2e-10, 2e-10, (4, 4)))
        problem = replace(make(cost, spend[None], spend[:, 2].sum()), bits=BITS)
        best, law = brute_force(problem), fit_law(problem)
        assert best is not None
        assert law.exact
        bound = relax(problem, maximise_dual(problem), law).lower_bound
        assert best.objective * (1 - 1e-8) <= bound <= best.objective


def test_without_the_law_nothing_is_claimed() -> None:
    problem = lawful(np.random.default_rng(0))
    problem.cost[0, 0] *= 2
    assert relax(problem, maximise_dual(problem), fit_law(problem)).lower_bound == -np.inf


def test_real_valued_bits_of_units_without_a_law_are_absent() -> None:
    problem = replace(make([[4, 1], [0, -1]], [[[2, 3], [2, 3]]], 5), bits=BITS[:2])
    found = relax(problem, maximise_dual(problem), fit_law(problem))
    assert np.isnan(found.bits).tolist() == [False, True]
    outcome = convex.solve(problem, Effort())
    assert outcome.choice is not None
    assert outcome.choice.tolist() == [1, 0]


def test_bits_that_spend_nothing_are_all_taken() -> None:
    problem = lawful(np.random.default_rng(3))
    problem.spend[0, :3] = 1.0
    bits = relax(problem, maximise_dual(problem), fit_law(problem)).bits
    assert bits[:3].tolist() == [8.0] * 3
    problem.spend[0] = 1.0
    assert relax(problem, maximise_dual(problem), fit_law(problem)).bits.tolist() == [8.0] * 4


def test_of_options_with_the_same_bits_the_better_one_is_taken() -> None:
    cost = np.array([[16.0, 9.0, 4.0, 1.0], [16.0, 9.0, 4.0, 1.0]])
    problem = make(cost, [[[2, 2, 3, 4], [2, 2, 3, 4]]], 5)
    outcome = convex.solve(replace(problem, bits=np.array([2.0, 2.0, 3.0, 4.0])), Effort())
    assert outcome.choice is not None
    assert problem.objective(outcome.choice) == 13


@pytest.mark.thorough
def test_a_problem_that_rounding_and_repair_cannot_settle_has_no_solution() -> None:
    found = {Status.OPTIMAL: 0, Status.FEASIBLE: 0, Status.NO_SOLUTION: 0, Status.INFEASIBLE: 0}
    rng = np.random.default_rng(0)
    for _ in range(300):
        problem = random_problem(rng, limits=2)
        outcome, best = convex.solve(problem, Effort()), brute_force(problem)
        found[outcome.status] += 1
        assert (outcome.choice is None) == (outcome.status in {Status.NO_SOLUTION, Status.INFEASIBLE})
        if outcome.status is Status.INFEASIBLE:
            assert best is None
        if outcome.choice is not None:
            assert best is not None
            assert problem.feasible(outcome.choice)
            assert outcome.bound <= best.objective + 1e-9
    assert all(found.values()), found


@pytest.mark.parametrize("limits", [1, 2])
def test_rounded_plans_of_lawful_tables_are_close_to_the_optimum(limits: int) -> None:
    gaps = []
    for seed in range(30):
        problem = lawful(np.random.default_rng(seed), limits=limits)
        best, outcome = brute_force(problem), convex.solve(problem, Effort())
        if best is not None and outcome.choice is not None:
            gaps.append(problem.objective(outcome.choice) / best.objective - 1)
    assert len(gaps) >= 25
    assert np.median(gaps) < 0.05


def test_missing_options_are_never_taken() -> None:
    problem = make([[4, NAN, 1], [NAN, 2, NAN]], [[[1, 0, 3], [0, 2, 0]]], 4)
    outcome = convex.solve(problem, Effort())
    assert outcome.choice is not None
    assert outcome.choice.tolist() == [0, 1]


@pytest.mark.parametrize("factor", [1e-12, 3.0, 1e12])
def test_the_scale_of_the_costs_changes_no_bits(factor: float) -> None:
    for seed in range(20):
        problem = random_problem(np.random.default_rng(seed), limits=1)
        scaled = replace(problem, cost=problem.cost * factor)
        dual, other = maximise_dual(problem), maximise_dual(scaled)
        if np.isfinite(dual.bound):
            found, again = relax(problem, dual, fit_law(problem)), relax(scaled, other, fit_law(scaled))
            assert again.bits == pytest.approx(found.bits, abs=1e-9, nan_ok=True)
