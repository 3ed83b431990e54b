"""Meeting in the middle: nothing within reach is missed, and what is claimed is what was seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from allocator.bounds.dual import maximise_dual
from allocator.contract.status import Status
from allocator.knapsack.problem import Problem
from allocator.knapsack.reductions import fitting_options
from allocator.solvers.exact import half_plans
from allocator.solvers.exact import meet_in_the_middle as halves
from allocator.solvers.exact import search as exact
from allocator.solvers.exact.meet_in_the_middle import meet_in_the_middle
from allocator.solvers.exact.pair_join import Pairs
from allocator.solvers.outcome import Effort
from tests.allocator.problems import LIBRARY, brute_force, make, random_problem
from tests.allocator.solvers.exact.test_early_stop import hard


def same_sizes(units: int, limits: int, seed: int) -> Problem:
    """Small integers everywhere, so that most half plans spend and cost what others do."""
    rng = np.random.default_rng(seed)
    spend = rng.integers(0, 3, (limits, units, 3))
    return make(rng.integers(0, 4, (units, 3)), spend, (0.4 * spend.max(axis=2).sum(axis=1)).astype(int))


def search(problem: Problem, effort: Effort, most_states: int) -> halves.Expansion:
    return meet_in_the_middle(problem, maximise_dual(problem), None, effort, most_states)


@pytest.mark.parametrize("limits", [1, 2, 3, 5])
@pytest.mark.parametrize("merged_from", [2, 10**9])
@pytest.mark.thorough
def test_finds_proves_and_breaks_ties(limits: int, merged_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_plans, "_MERGED_FROM", merged_from)
    monkeypatch.setattr(halves, "_FIRST_MOVES", 1)  # so that the reach grows often
    rng = np.random.default_rng(limits)
    canonical = 0
    for trial in range(60):
        problem = random_problem(rng, limits=limits)
        best = brute_force(problem)
        if np.isposinf(maximise_dual(problem).bound):
            continue
        found = search(problem, Effort(), 10**6)
        if best is None:
            assert (found.choice, found.bound) == (None, np.inf), trial
            continue
        assert found.choice is not None, trial
        assert problem.feasible(found.choice), trial
        assert problem.objective(found.choice) == pytest.approx(best.objective, rel=1e-9, abs=1e-9), trial
        assert found.bound == problem.objective(found.choice), trial
        canonical += found.canonical
        assert not found.canonical or tuple(found.choice) == best.choice, trial
    assert canonical


@pytest.mark.parametrize("name", [name for name, problem in LIBRARY.items() if problem.limits])
def test_knows_the_library(name: str) -> None:
    best = brute_force(LIBRARY[name])
    problem = replace(LIBRARY[name], available=fitting_options(LIBRARY[name]))
    if not problem.available.any(axis=1).all() or np.isposinf(maximise_dual(problem).bound):
        assert best is None
        return
    found = search(problem, Effort(), 10**6)
    assert (found.choice is None) == (best is None)
    if best is not None:
        assert found.choice is not None
        assert tuple(found.choice) == best.choice


def test_equal_states_are_merged_without_losing_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "_FIRST_MOVES", 40)  # so that many states are listed
    problem = same_sizes(units=30, limits=2, seed=1)
    whole = search(problem, Effort(), 10**7)
    monkeypatch.setattr(half_plans, "_MERGED_FROM", 50)
    merged = search(problem, Effort(), 10**7)
    assert merged.bound == whole.bound
    assert merged.work["half_states"] < whole.work["half_states"] / 2
    assert not merged.canonical  # of merged plans only one was seen


def test_stops_at_too_many_states_with_what_it_proved() -> None:
    problem = hard(units=200, limits=2)
    best = exact.solve(problem, Effort())
    assert best.status is Status.OPTIMAL
    found = search(problem, Effort(), 500)
    assert found.choice is None
    assert not found.canonical
    assert maximise_dual(problem).bound <= found.bound < best.bound


def test_a_requested_gap_ends_the_search() -> None:
    problem = hard(units=200, limits=2)
    dual = maximise_dual(problem)
    best = exact.solve(problem, Effort()).choice
    loose = meet_in_the_middle(problem, dual, best, Effort(gap=0.01), 10**6)
    assert loose.work["half_states"] == 0
    assert loose.choice is best


def test_two_binding_limits_take_few_states() -> None:
    problem = hard(units=500, limits=2)
    outcome = exact.solve(problem, Effort())
    assert outcome.status is Status.OPTIMAL
    assert outcome.canonical
    assert outcome.work["half_units"] < 150
    assert outcome.work["half_states"] < 1_000_000
    assert "nodes" not in outcome.work


@pytest.mark.parametrize("limits", [1, 2, 3])
@pytest.mark.parametrize("open_rows", [0, 1])
def test_pairs_are_those_that_fill_the_room(limits: int, open_rows: int) -> None:
    rng = np.random.default_rng(limits)
    for _ in range(40):
        left = rng.integers(-20, 20, (int(rng.integers(1, 30)), limits)).astype(float)
        right = rng.integers(-20, 20, (int(rng.integers(1, 30)), limits)).astype(float)
        room, window = rng.integers(-15, 15, limits).astype(float), rng.integers(0, 9, limits).astype(float)
        window[:open_rows] = np.inf
        wanted = {
            (i, j)
            for i, j in product(range(len(left)), range(len(right)))
            if (left[i] + right[j] <= room).all() and (left[i] + right[j] >= room - window).all()
        }
        pairs = Pairs(left, right, room, window)
        found = [pair for some in pairs.batches() for pair in zip(*map(np.ndarray.tolist, some), strict=True)]
        assert len(found) == pairs.pairs
        assert len(set(found)) == len(found)
        assert wanted <= set(found)
