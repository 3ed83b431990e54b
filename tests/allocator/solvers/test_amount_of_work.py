"""Without a time limit a search ends after an amount of work that is the same everywhere; with one a plan is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from allocator import Status, solve
from allocator.knapsack.problem import Problem
from allocator.solvers import SOLVERS, Effort
from allocator.solvers.baselines.local_search import dearer_prices
from allocator.solvers.exact import search as exact
from allocator.solvers.exact.strategy import Branches, Strategy
from allocator.solvers.mip.scaling import ScaledProblem
from tests.allocator.problems import brute_force, make, random_problem


def hard(seed: int, units: int = 40, limits: int = 6) -> Problem:
    """Decimals under several limits that all bind."""
    rng = np.random.default_rng(seed)
    spend = rng.random((limits, units, 4))
    return make(rng.random((units, 4)), spend, spend.mean(axis=2).sum(axis=1) * 0.8)


def test_the_default_amount_of_work_ends_a_search_with_its_bound_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("allocator.solvers.exact.branching._DEFAULT_WORK", 1.0)
    problem = hard(3)
    profile = {
        "formats": {f"f{at}": {"weight_bits": at + 1} for at in range(4)},
        "layers": [{"name": f"l{at}"} for at in range(problem.units)],
        "costs": {"kl": {"values": problem.cost.tolist()}},
        "resources": {f"r{at}": {"values": rows.tolist()} for at, rows in enumerate(problem.spend)},
    }
    budgets = {f"r{at}": limit for at, limit in enumerate(problem.limit.tolist())}
    monkeypatch.setattr("allocator.solvers.exact.search.solve.__defaults__", (Strategy((), (Branches(),)),))
    answers = [solve(profile, budgets=budgets, solver="exact") for _ in range(2)]
    assert answers[0].status is Status.FEASIBLE
    assert answers[0].gap is not None
    assert 0 < answers[0].gap < 0.5
    assert answers[0].assignment == answers[1].assignment
    assert answers[0].bound == answers[1].bound
    (text,) = (note.text for note in answers[0].notes if note.about == "search")
    for name in ("time_limit_s", "node_limit", "gap"):
        assert name in text
    assert not any(note.about == "search" for note in solve(profile).notes)


def test_more_nodes_prove_more() -> None:
    problem, branches = hard(3, units=20), Strategy((), (Branches(),))
    few, many = (exact.solve(problem, Effort(node_limit=nodes), branches) for nodes in (2, 12))
    assert (few.work["branches"], many.work["branches"]) == (2, 12)
    assert few.bound <= many.bound


def test_units_that_are_decided_leave_the_branching_without_changing_its_answer() -> None:
    rng, branched = np.random.default_rng(8), 0
    for trial in range(40):
        problem = random_problem(rng, limits=3)
        best = brute_force(problem)
        found = exact.solve(problem, Effort(), Strategy((), (Branches(),)))
        branched += "branches" in found.work
        assert (found.status is Status.INFEASIBLE) == (best is None), trial
        if best is not None:
            assert found.choice is not None, trial
            assert problem.objective(found.choice) == pytest.approx(best.objective, abs=1e-9), trial
    assert branched > 5


@pytest.mark.parametrize("solver", ["exact", "highs", "cpsat", "pulp"])
def test_no_time_limit_costs_the_plan(solver: str) -> None:
    rng = np.random.default_rng(1)
    spend = rng.integers(1, 1000, (2, 60, 4)).astype(float)
    used = spend[:, np.arange(60), rng.integers(0, 4, 60)].sum(axis=1)
    problem = make(rng.random((60, 4)), np.concatenate([spend, -spend]), np.append(used + 40, 40 - used))
    outcome = SOLVERS.find(solver).load()(problem, Effort(time_limit_s=0.25))
    assert outcome.choice is not None
    assert problem.feasible(outcome.choice)


def test_dearer_prices_keep_limits_that_have_no_price_yet() -> None:
    rng = np.random.default_rng(0)
    spend = rng.random((2, 30, 4))
    problem = make(-spend.sum(axis=0), spend, spend.mean(axis=2).sum(axis=1) * 0.8)
    dearest = problem.cost.argmin(axis=1)
    assert not problem.feasible(dearest)
    assert problem.feasible(dearer_prices(problem, np.zeros(2), dearest))
    impossible = replace(problem, limit=np.full(2, -1.0))
    assert dearer_prices(impossible, np.zeros(2), dearest) is dearest


def test_a_prepared_solver_is_the_solver() -> None:
    rng = np.random.default_rng(2)
    problem = random_problem(rng, limits=1)
    for entry in SOLVERS.values():
        run = entry.prepare(problem)
        for more in (0.0, 2.0):
            limited = replace(problem, limit=problem.limit + more)
            one, other = run(limited, Effort()), entry.load()(limited, Effort())
            assert (one.status, one.bound) == (other.status, other.bound), entry.name


def test_binaries_stand_unit_by_unit() -> None:
    problem = make([[1, np.nan, 2], [3, 4, 5], [6, np.nan, np.nan]], [[[1, 1, 1]] * 3], 9)
    assert ScaledProblem(problem, problem.limit).spans() == [(0, 2), (2, 5), (5, 6)]


@pytest.mark.parametrize("decimals", [2, 15])
def test_narrow_bands_of_decimals_are_planned(decimals: int) -> None:
    rng = np.random.default_rng(4)
    for _ in range(6):
        spend = rng.random((2, 12, 7)).round(decimals)
        used = spend[:, np.arange(12), rng.integers(0, 7, 12)].sum(axis=1) * (1 + 1e-9)
        problem = make(
            rng.random((12, 7)), np.concatenate([spend, -spend]), np.append(used, used * -(1 - 3e-9))
        )
        outcome = exact.solve(problem, Effort())
        assert outcome.status is Status.OPTIMAL
        assert outcome.choice is not None
        assert problem.feasible(outcome.choice)
