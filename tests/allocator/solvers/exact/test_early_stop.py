"""Solvers that stop early say `feasible` with an honest bound, never `optimal`."""

from __future__ import annotations

import time

import numpy as np
import pulp
import pytest

from allocator.bounds.dual import maximise_dual
from allocator.contract.status import Status
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers import SOLVERS
from allocator.solvers.exact import expanding_core
from allocator.solvers.exact import search as exact
from allocator.solvers.exact.strategy import MeetInTheMiddle, Nodes, States, Strategy, WholeCosts
from allocator.solvers.exact.ties import canonical_plan
from allocator.solvers.mip import cpsat, highs
from allocator.solvers.mip import pulp as pulp_solver
from allocator.solvers.mip.scaling import ScaledProblem
from allocator.solvers.outcome import Effort
from tests.allocator.problems import LIBRARY, brute_force, make


def hard(units: int = 300, limits: int = 1, seed: int = 0) -> Problem:
    """Costs that fall as spends rise, roughly in proportion: many plans are almost as good as the best."""
    rng = np.random.default_rng(seed)
    spend = np.sort(rng.integers(1, 10**6, (limits, units, 8)).astype(float), axis=2)
    cost = (spend.sum(axis=0).max() - spend.sum(axis=0)) * (1 + 0.1 * rng.random((units, 8)))
    limit = np.floor(spend.mean(axis=2).sum(axis=1))
    return make(cost, spend, limit)


def test_the_expanding_core_gives_its_incumbent_and_the_bound_it_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = hard()
    best = exact.solve(problem, Effort())
    assert best.status is Status.OPTIMAL
    stages = iter(range(10**9))
    monkeypatch.setattr(Deadline, "passed", lambda _: next(stages) > 5)
    stopped = exact.solve(problem, Effort(time_limit_s=1.0))
    assert stopped.choice is not None
    assert problem.feasible(stopped.choice)
    assert stopped.status is Status.FEASIBLE
    assert stopped.bound <= best.bound < problem.objective(stopped.choice)


def test_a_requested_gap_ends_the_search_within_it() -> None:
    problem = hard(limits=1, seed=1)
    best = exact.solve(problem, Effort())
    loose = exact.solve(problem, Effort(gap=0.01))
    assert loose.choice is not None
    assert problem.objective(loose.choice) <= best.bound * 1.01
    assert loose.work["half_states"] < best.work["half_states"]


@pytest.mark.parametrize("solver", ["exact", "highs", "cpsat"])
@pytest.mark.thorough
def test_several_limits_keep_their_time_limit(solver: str) -> None:
    problem = hard(units=2000, limits=3)
    start = time.monotonic()
    outcome = SOLVERS[solver].load()(problem, Effort(time_limit_s=2.0))
    assert time.monotonic() - start < (2.2 if solver == "exact" else 10.0)
    if outcome.choice is not None:
        assert problem.feasible(outcome.choice)
        assert outcome.bound <= problem.objective(outcome.choice)
    if outcome.status is Status.OPTIMAL:
        assert outcome.choice is not None
        assert problem.objective(outcome.choice) - outcome.bound <= 1e-9 * abs(outcome.bound)


@pytest.mark.parametrize("solver", ["highs", "pulp", "cpsat"])
@pytest.mark.parametrize("limits", [1, 2, 3])
@pytest.mark.thorough
def test_the_word_of_a_solver_proves_nothing(
    limits: int, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "PROOF", Strategy((), ()))
    problem = hard(units=10, limits=limits)
    claimed = SOLVERS[solver].load()(problem, Effort())
    assert claimed.status is Status.FEASIBLE
    assert claimed.choice is not None
    assert claimed.bound < problem.objective(claimed.choice)
    monkeypatch.undo()
    proved = SOLVERS[solver].load()(problem, Effort())
    assert proved.status is Status.OPTIMAL
    assert proved.choice is not None
    assert problem.objective(proved.choice) <= problem.objective(claimed.choice)


def test_a_plan_that_cbc_found_before_it_stopped_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pulp.LpProblem.solve

    def truncated(self: pulp.LpProblem, solver: object) -> int:
        status = real(self, solver)
        # What PuLP sets when CBC stops on time; `status` says Optimal all the same.
        self.sol_status = pulp.LpSolutionIntegerFeasible
        return int(status)

    assert pulp_solver.find(hard(units=10), Effort()).finished
    monkeypatch.setattr(pulp.LpProblem, "solve", truncated)
    answer = pulp_solver.find(hard(units=10), Effort())
    assert not answer.finished
    assert answer.choice is not None


def test_an_overstepped_limit_is_refused_and_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = LIBRARY["exactly at the limit"]
    real = highs._run
    calls = []

    def overstep_once(scaled: ScaledProblem, effort: Effort, deadline: Deadline) -> object:
        result = real(scaled, effort, deadline)
        if not calls:
            result.x = np.array([0.0, 1.0, 0.0, 1.0])  # spends 6 of 4
        calls.append(1)
        return result

    monkeypatch.setattr(highs, "_run", overstep_once)
    answer = highs.find(problem, Effort())
    assert len(calls) > 1
    assert answer.choice is None or problem.feasible(answer.choice)


def test_fractional_binaries_are_not_read_as_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = LIBRARY["exactly at the limit"]
    real = highs._run

    def halves(scaled: ScaledProblem, effort: Effort, deadline: Deadline) -> object:
        result = real(scaled, effort, deadline)
        result.x = np.full(4, 0.5)
        return result

    monkeypatch.setattr(highs, "_run", halves)
    assert highs.find(problem, Effort()).choice is None


@pytest.mark.parametrize("limits", [1, 2])
@pytest.mark.thorough
def test_integer_costs_round_a_bound_up_and_others_do_not(limits: int) -> None:
    rng = np.random.default_rng(limits)
    strategy = Strategy(one_limit=(WholeCosts(),), several_limits=())
    proved = {True: 0, False: 0}
    for _ in range(150):
        spend, cost = rng.integers(0, 8, (limits, 5, 3)), rng.integers(-4, 9, (5, 3))
        limit = spend.mean(axis=2).sum(axis=1)
        for whole, scale in ((True, 1.0), (False, 0.3)):
            problem = make(cost * scale, spend, limit)
            best, outcome = brute_force(problem), exact.solve(problem, Effort(), strategy)
            if outcome.choice is None or best is None:
                continue
            assert outcome.bound <= best.objective + 1e-9
            proved[whole] += outcome.status is Status.OPTIMAL
            if outcome.canonical:
                assert tuple(outcome.choice) == best.choice
    assert proved[True] > proved[False]


def test_ties_stay_as_they_are_when_time_is_up() -> None:
    problem = LIBRARY["identical units"]
    dual, best = maximise_dual(problem), brute_force(problem)
    assert best is not None
    choice = np.array(best.choice)[::-1]
    assert canonical_plan(problem, dual, choice, Deadline(0.0)) is None
    assert canonical_plan(problem, dual, choice) is not None


def test_no_mip_is_begun_with_less_time_than_it_takes_to_load() -> None:
    problem = hard(units=30)
    stopped = exact.solve(problem, Effort(time_limit_s=0.3), Strategy(one_limit=(Nodes(),)))
    assert stopped.status is Status.FEASIBLE
    assert stopped.work.keys() == {"dual_evaluations"}


def test_work_is_counted() -> None:
    met = {"dual_evaluations", "half_units", "half_states"}
    assert exact.solve(hard(), Effort()).work.keys() == met
    assert exact.solve(LIBRARY["three limits"], Effort()).work.keys() == met
    states = Strategy(one_limit=(States(3_000_000),))
    assert exact.solve(hard(), Effort(), states).work.keys() == {
        "dual_evaluations",
        "core_units",
        "states",
        "peak_states",
    }
    assert cpsat.find(LIBRARY["three limits"], Effort()).work.keys() == {"cpsat_branches"}


def test_the_core_stays_small() -> None:
    outcome = exact.solve(hard(units=3000), Effort())
    assert outcome.status is Status.OPTIMAL
    assert outcome.work["half_units"] < 100
    assert outcome.work["half_states"] < 50_000


def test_the_module_under_test_is_the_one_that_exact_uses() -> None:
    assert exact.expand_core is expanding_core.expand_core


@pytest.mark.parametrize("limits", [1, 2, 8])
def test_no_time_at_all_gives_the_start_with_the_bound_so_far(
    limits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = hard(limits=limits)
    best = exact.solve(problem, Effort(time_limit_s=0.5))
    monkeypatch.setattr(Deadline, "passed", lambda _: True)
    stopped = exact.solve(problem, Effort(time_limit_s=0.5))
    assert stopped.status in {Status.FEASIBLE, Status.NO_SOLUTION}
    assert best.choice is not None
    assert stopped.bound <= problem.objective(best.choice)
    assert stopped.work.keys() == {"dual_evaluations"}
    if stopped.choice is not None:
        assert problem.feasible(stopped.choice)
        assert stopped.bound <= problem.objective(stopped.choice)


def test_a_step_does_not_lose_the_bound_that_an_earlier_one_proved() -> None:
    problem = hard(units=100, limits=2)
    halves, nodes = MeetInTheMiddle(20_000), Nodes(1)
    before = exact.solve(problem, Effort(), Strategy(several_limits=(halves,)))
    assert before.status is Status.FEASIBLE
    assert before.bound > maximise_dual(problem).bound  # or there is nothing to lose
    after = exact.solve(problem, Effort(), Strategy(several_limits=(halves, nodes)))
    assert after.bound >= before.bound
