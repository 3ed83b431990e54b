"""A plan and a bound first, then a solver that may come back with neither when time is short."""

from __future__ import annotations

from dataclasses import replace

from allocator.contract.status import Status
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers.exact import search as exact
from allocator.solvers.exact.strategy import Strategy
from allocator.solvers.outcome import Effort, Outcome, Solver, found, relative_gap

#: The dual, and a plan repaired from it.
_START = Strategy(one_limit=(), several_limits=())
#: Share of the time that they may take.
_SHARE = 0.3
#: With less time left no MIP solver is loaded.
_LEAST_FOR_MIP_S = 1.0


def started(run: Solver) -> Solver:
    """Let a solver begin with a plan where time is limited, so that no time limit costs the plan.

    Returns:
        A solver that gives the better of both plans and the better of both bounds.
    """

    def solve(problem: Problem, effort: Effort) -> Outcome:
        if effort.time_limit_s is None:
            return run(problem, effort)
        deadline = Deadline(effort.time_limit_s)
        first = exact.solve(problem, replace(effort, time_limit_s=_SHARE * effort.time_limit_s), _START)
        left_s = deadline.left_s()
        asked = replace(effort, time_limit_s=left_s)
        if first.status in {Status.OPTIMAL, Status.INFEASIBLE} or _close(problem, first, effort.gap):
            return first
        if left_s is not None and left_s < _LEAST_FOR_MIP_S:
            return _better(problem, first, exact.solve(problem, asked))
        return _better(problem, first, run(problem, asked))

    return solve


def _close(problem: Problem, outcome: Outcome, gap: float) -> bool:
    return (
        outcome.choice is not None and relative_gap(problem.objective(outcome.choice), outcome.bound) <= gap
    )


def _better(problem: Problem, first: Outcome, second: Outcome) -> Outcome:
    prices = first.prices if second.prices is None else second.prices
    if second.status in {Status.OPTIMAL, Status.INFEASIBLE}:
        return replace(second, prices=prices)
    bound = max(first.bound, second.bound)
    plans = [item.choice for item in (second, first) if item.choice is not None]
    if not plans:
        return replace(second, bound=bound, prices=prices)
    return replace(found(problem, min(plans, key=problem.objective), bound, second.work), prices=prices)
