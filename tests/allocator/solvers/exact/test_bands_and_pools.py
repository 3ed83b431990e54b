"""Bands, pools and demands: sides that do not bind cost nothing, and what has nothing in common is solved apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from allocator.bounds.dual import maximise_dual
from allocator.contract.status import Status
from allocator.knapsack.bands import Bands
from allocator.knapsack.components import connected_components
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers import SOLVERS
from allocator.solvers.baselines import greedy
from allocator.solvers.baselines.local_search import repair
from allocator.solvers.exact import search as exact
from allocator.solvers.exact.started import started
from allocator.solvers.exact.strategy import MeetInTheMiddle, Strategy, WithoutIdleLimits, WithoutIdleSides
from allocator.solvers.outcome import Effort, Outcome
from tests.allocator.bounds.test_dual import relaxation
from tests.allocator.problems import brute_force, make
from tests.allocator.solvers.exact.test_early_stop import hard


def pools(rng: np.random.Generator, blocks: int, units: int, *, whole: bool, equal: bool = False) -> Problem:
    """A limit and a demand for each block of units."""
    spend = np.zeros((2 * blocks, blocks * units, 3))
    limit = np.zeros(2 * blocks)
    for block in range(blocks):
        rows = slice(block * units, (block + 1) * units)
        drawn = rng.integers(0, 6, (units, 3)) * (1.0 if whole else 0.1)
        spend[2 * block, rows], spend[2 * block + 1, rows] = drawn, -drawn
        at = drawn[np.arange(units), rng.integers(0, 3, units)].sum()
        limit[2 * block] = at + (0 if equal else rng.integers(0, 3))
        limit[2 * block + 1] = -at
    cost = rng.integers(0, 9, (blocks * units, 3)).astype(float)
    demand = np.arange(2 * blocks) % 2 == 1
    return replace(make(cost, spend, limit), demand=demand)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.thorough
def test_pools_with_bands_agree_with_brute_force(whole: bool, equal: bool) -> None:
    rng = np.random.default_rng(whole + 2 * equal)
    for trial in range(40):
        problem = pools(rng, 2, 3, whole=whole, equal=equal)
        best, outcome = brute_force(problem), exact.solve(problem, Effort())
        if best is None:
            assert outcome.status is Status.INFEASIBLE, trial
            continue
        assert outcome.status is Status.OPTIMAL, trial
        assert outcome.choice is not None
        assert problem.feasible(outcome.choice)
        assert problem.objective(outcome.choice) == pytest.approx(best.objective, abs=1e-9), trial
        if outcome.canonical:
            assert tuple(outcome.choice) == best.choice, trial


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.thorough
def test_bands_that_share_units_have_the_bound_of_the_linear_relaxation(rows: int) -> None:
    rng = np.random.default_rng(rows)
    for trial in range(40):
        spend = rng.integers(0, 6, (rows, 6, 3)).astype(float)
        at = spend.min(axis=2).sum(axis=1) + np.floor(rng.random(rows) * np.ptp(spend, axis=2).sum(axis=1))
        limit = np.concatenate([at + rng.integers(0, 3, rows), -at])
        problem = make(rng.normal(size=(6, 3)), np.concatenate([spend, -spend]), limit)
        dual = maximise_dual(problem)
        assert dual.bound == pytest.approx(relaxation(problem), rel=1e-6, abs=1e-6), trial
        assert (dual.multipliers >= 0).all()
        bands = Bands.of(problem)
        assert (dual.multipliers[bands.upper] * dual.multipliers[bands.lower] == 0).all()


@pytest.mark.parametrize("blocks", [8, 32])
def test_equal_counts_per_block_have_a_dual_and_a_plan(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    spend = np.zeros((2 * blocks, blocks * 32, 3))
    for block in range(blocks):
        spend[2 * block, block * 32 : (block + 1) * 32, 0] = 1
        spend[2 * block + 1] = -spend[2 * block]
    problem = make(rng.random((blocks * 32, 3)), spend, np.tile([20.0, -20.0], blocks))
    outcome = exact.solve(problem, Effort())
    assert outcome.status is Status.OPTIMAL
    assert outcome.choice is not None
    assert problem.used(outcome.choice)[::2].tolist() == [20] * blocks
    assert maximise_dual(problem).bound == pytest.approx(outcome.bound, rel=1e-9)  # counts are integral


def test_parallel_limits_do_no_harm_to_the_dual() -> None:
    rng = np.random.default_rng(5)
    spend = np.repeat(rng.integers(0, 9, (1, 12, 3)).astype(float), 12, axis=0)
    spend *= np.arange(1, 13)[:, None, None]
    limit = spend.mean(axis=2).sum(axis=1)
    cost = -spend[0] + rng.random((12, 3))
    dual = maximise_dual(make(cost, spend, limit))
    assert dual.bound == pytest.approx(relaxation(make(cost, spend[:1], limit[:1])), rel=1e-6)


def test_what_pools_have_in_common_is_nothing() -> None:
    problem = pools(np.random.default_rng(0), 3, 4, whole=True)
    parts = connected_components(problem)
    assert [part.limits.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert sorted(np.concatenate([part.units for part in parts])) == list(range(12))
    joined = replace(
        problem,
        spend=np.concatenate([problem.spend, problem.spend.sum(axis=0, keepdims=True) + 1]),
        limit=np.append(problem.limit, 99.0),
        demand=None,
    )
    joined.spend[-1, 0, 1] += (
        3  # one unit only: a limit of its own, the other spends are the same whatever is taken
    )
    assert len(connected_components(joined)) == 3


def test_a_limit_that_no_unit_moves_is_kept_only_where_it_is_broken() -> None:
    problem = pools(np.random.default_rng(0), 2, 3, whole=True)
    idle = np.ones((1, 6, 3))
    for most, feasible in ((6.0, True), (5.0, False)):
        more = replace(
            problem,
            spend=np.concatenate([problem.spend, idle]),
            limit=np.append(problem.limit, most),
            demand=None,
        )
        assert (4 in np.concatenate([part.limits for part in connected_components(more)])) is not feasible
        assert (maximise_dual(more).bound == np.inf) is not feasible
        assert (exact.solve(more, Effort()).status is Status.OPTIMAL) is feasible


@pytest.mark.parametrize("step", [WithoutIdleSides(), WithoutIdleLimits()])
@pytest.mark.thorough
def test_limits_that_were_left_out_are_taken_back_where_a_plan_breaks_them(
    step: WithoutIdleSides | WithoutIdleLimits,
) -> None:
    rng = np.random.default_rng(3)
    strategy = Strategy(several_limits=(step, MeetInTheMiddle(1_000_000)))
    for trial in range(80):
        spend = rng.integers(0, 6, (1, 5, 3)).astype(float)
        at = float(rng.integers(3, 18))
        problem = make(rng.integers(0, 9, (5, 3)), np.concatenate([spend, -spend]), [at + 1, -at])
        best, outcome = brute_force(problem), exact.solve(problem, Effort(), strategy)
        assert outcome.status is (Status.INFEASIBLE if best is None else Status.OPTIMAL), trial
        if best is not None:
            assert outcome.bound == best.objective


def test_a_side_that_does_not_bind_costs_nothing() -> None:
    one = hard(units=300)
    band = replace(
        one, spend=np.concatenate([one.spend, -one.spend]), limit=np.append(one.limit, -one.limit / 2)
    )
    alone, both = exact.solve(one, Effort()), exact.solve(band, Effort())
    assert both.status is Status.OPTIMAL
    assert np.array_equal(alone.choice, both.choice)
    assert both.canonical == alone.canonical
    assert both.work["half_states"] == alone.work["half_states"]


def test_parts_share_the_time_and_keep_the_gap() -> None:
    halves = [hard(units=150, limits=2, seed=seed) for seed in (1, 2)]
    spend = np.zeros((4, 300, 8))
    spend[:2, :150], spend[2:, 150:] = halves[0].spend, halves[1].spend
    cost = np.concatenate([half.cost for half in halves])
    problem = make(cost, spend, np.concatenate([half.limit for half in halves]))
    heard: list[tuple[float | None, float]] = []
    outcome = exact.solve(problem, Effort(gap=0.01, progress=lambda *facts: heard.append(facts)))
    assert outcome.choice is not None
    objective = problem.objective(outcome.choice)
    assert outcome.bound >= objective * (1 - 0.01)
    assert heard
    assert all(bound <= objective for _, bound in heard)
    stopped = exact.solve(problem, Effort(time_limit_s=0.5))
    assert stopped.choice is None or problem.feasible(stopped.choice)
    assert stopped.bound <= objective


def test_no_time_gives_no_price_but_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = hard(limits=3)
    best = maximise_dual(problem)
    assert best.complete
    monkeypatch.setattr(Deadline, "passed", lambda _: True)
    stopped = maximise_dual(problem, deadline=Deadline(1.0))
    assert not stopped.complete
    assert stopped.bound <= best.bound


@pytest.mark.parametrize("seed", range(30))
def test_of_equally_good_plans_a_demand_takes_the_one_that_spends_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spend = rng.integers(0, 6, (1, 5, 3)).astype(float)
    cost = rng.integers(0, 3, (5, 3)).astype(float)
    problem = replace(make(cost, -spend, [-float(rng.integers(5, 15))]), demand=np.array([True]))
    best, outcome = brute_force(problem), exact.solve(problem, Effort())
    assert best is not None
    assert outcome.choice is not None
    assert outcome.canonical
    assert tuple(outcome.choice) == best.choice


def test_auto_counts_what_has_to_be_carried_together() -> None:
    apart = pools(np.random.default_rng(1), 12, 3, whole=True)
    entry, why = SOLVERS["auto"].chosen(apart)
    assert entry.name == "exact"
    assert why == "exact: 1 limit of 24, taken apart, fits into the states of the expanding core"
    entry, why = SOLVERS["auto"].chosen(hard(units=10, limits=9))
    assert entry.name == "highs"
    assert why == "highs: 9 limits are too many for the expanding core, which takes 8"


@pytest.mark.parametrize("limits", [1, 3])
def test_greedy_keeps_what_it_bought_when_time_is_up(limits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = hard(units=200, limits=limits)
    whole = greedy.solve(problem, Effort())
    monkeypatch.setattr(Deadline, "passed", lambda _: True)
    stopped = greedy.solve(problem, Effort(time_limit_s=1.0))
    assert stopped.choice is not None
    assert whole.choice is not None
    assert problem.feasible(stopped.choice)
    assert problem.objective(stopped.choice) >= problem.objective(whole.choice)


def test_greedy_ends_above_the_low_side_of_a_band() -> None:
    problem = hard(units=50)
    low = problem.limit[0] - 10_000_000
    band = replace(
        problem, spend=np.concatenate([problem.spend, -problem.spend]), limit=np.append(problem.limit, -low)
    )
    outcome = greedy.solve(band, Effort())
    assert outcome.choice is not None
    assert np.array_equal(outcome.choice, greedy.solve(problem, Effort()).choice)


def test_a_repair_ends_where_moves_only_trade_roundings() -> None:
    # 0.1 + 0.2 is not 0.3: each side of the equality is broken by turns.
    spend = np.array([[[0.1, 0.3], [0.2, 0.1], [0.3, 0.1]]])
    problem = make(np.zeros((3, 2)), np.concatenate([spend, -spend]), [0.55, -0.55])
    plan = repair(problem, np.zeros(3, dtype=np.int64), np.zeros((3, 2)))
    assert not problem.feasible(plan)


@pytest.mark.parametrize("left_s", [0.2, 2.0])
def test_a_solver_that_finds_nothing_in_time_leaves_the_plan_that_it_was_given(left_s: float) -> None:
    problem = hard(units=100, limits=9)

    def late(_: Problem, effort: Effort) -> Outcome:
        assert effort.time_limit_s is not None
        return Outcome(Status.NO_SOLUTION, None, -np.inf)

    outcome = started(late)(problem, Effort(time_limit_s=left_s))
    assert outcome.status is Status.FEASIBLE
    assert outcome.choice is not None
    assert problem.feasible(outcome.choice)
    assert maximise_dual(problem).bound * 0.9 <= outcome.bound <= problem.objective(outcome.choice)
