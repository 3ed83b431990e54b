"""Every solver on the shared library, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.contract.status import Status
from allocator.knapsack.problem import Problem
from allocator.solvers import SOLVERS
from allocator.solvers.outcome import Effort
from tests.allocator.problems import LIBRARY, brute_force, random_problem

PROVING = ("exact", "highs", "pulp", "cpsat")
BASELINES = ("greedy", "uniform", "convex")


def _tolerance(problem: Problem) -> float:
    """What a solver of doubles may lose: 1e-9 of the range of the costs within reach."""
    return 1e-9 * float(np.ptp(problem.cost, axis=1).max())


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("solver", PROVING)
def test_finds_and_proves_the_optimum(solver: str, name: str) -> None:
    problem, best = LIBRARY[name], brute_force(LIBRARY[name])
    outcome = SOLVERS[solver].load()(problem, Effort())
    if best is None:
        assert outcome.status is Status.INFEASIBLE
        assert outcome.choice is None
        assert outcome.bound == np.inf
        return
    assert outcome.choice is not None
    assert problem.feasible(outcome.choice)
    if name.startswith("huge") and outcome.status is not Status.OPTIMAL:
        assert (
            solver != "exact"
        )  # 60 orders of magnitude are beyond absolute tolerances, and it has to be said
        return
    assert problem.objective(outcome.choice) == pytest.approx(
        best.objective, rel=1e-9, abs=_tolerance(problem)
    )
    assert outcome.status is Status.OPTIMAL
    if solver == "exact":
        assert outcome.canonical
        assert tuple(outcome.choice) == best.choice
    assert outcome.bound == pytest.approx(best.objective, rel=1e-9, abs=_tolerance(problem))


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("solver", BASELINES)
def test_baselines_stay_within_the_limits_and_claim_no_more_than_they_know(solver: str, name: str) -> None:
    problem, best = LIBRARY[name], brute_force(LIBRARY[name])
    outcome = SOLVERS[solver].load()(problem, Effort())
    if best is None:
        assert outcome.status in {Status.INFEASIBLE, Status.NO_SOLUTION}
        return
    assert outcome.bound <= best.objective + _tolerance(problem)
    if outcome.choice is None:
        assert outcome.status is Status.NO_SOLUTION
        return
    assert problem.feasible(outcome.choice)
    assert problem.objective(outcome.choice) >= best.objective - _tolerance(problem)
    if outcome.status is Status.OPTIMAL:
        assert problem.objective(outcome.choice) == pytest.approx(best.objective, rel=1e-9)


@pytest.mark.parametrize("limits", [0, 1, 2, 3])
@pytest.mark.parametrize("solver", ["exact", "highs"])
@pytest.mark.thorough
def test_random_problems(solver: str, limits: int) -> None:
    rng = np.random.default_rng(limits)
    run = SOLVERS[solver].load()
    for trial in range(150):
        problem = random_problem(rng, limits=limits)
        best, outcome = brute_force(problem), run(problem, Effort())
        if best is None:
            assert outcome.status is Status.INFEASIBLE, trial
            continue
        assert outcome.status is Status.OPTIMAL, trial
        assert outcome.choice is not None
        assert problem.feasible(outcome.choice)
        assert problem.objective(outcome.choice) == pytest.approx(best.objective, rel=1e-9, abs=1e-9), trial
        if solver == "exact":
            assert outcome.canonical, trial
            assert tuple(outcome.choice) == best.choice, trial


@pytest.mark.parametrize("solver", PROVING + BASELINES)
def test_same_input_same_output(solver: str) -> None:
    run = SOLVERS[solver].load()
    first, second = (run(LIBRARY["three limits"], Effort()) for _ in range(2))
    assert np.array_equal(first.choice, second.choice)
    assert first.bound == second.bound
