"""Several objectives in falling order of importance: each is optimised among the plans that are best in all before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from allocator.contract.status import Status
from allocator.knapsack.compile import Compiled, with_cost
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, IntArray, Problem
from allocator.solvers.outcome import Effort, Outcome, Solver, found

#: An objective counts as kept within the rounding of a sum of doubles; integers are kept to the last one.
_ROUNDING = 1e-12


def solve_in_order(compiled: Compiled, run: Solver, effort: Effort) -> Outcome:
    """Solve for the first objective, then for the next among equally good plans, and so on.

    Args:
        effort: Gap and time limit for all solves together.

    Returns:
        The outcome of the first objective with the plan that the last one chose, and the claim for every objective.
        It is optimal only where all are: where one is not proved nothing may be given up for the next one.
    """
    deadline = Deadline(effort.time_limit_s)
    outcome = run(compiled.problem, effort)
    goals = len(compiled.objectives)
    if goals == 1 or outcome.choice is None:
        return outcome
    problem, levels = compiled.problem, [(outcome.status, outcome.bound)]
    while len(levels) < goals and levels[-1][0] is Status.OPTIMAL:
        problem = _keeping(problem, with_cost(compiled, len(levels)).cost, outcome)
        after = run(problem, Effort(effort.gap, deadline.left_s(), effort.node_limit))
        work = dict(outcome.work) | {
            name: outcome.work.get(name, 0) + count for name, count in after.work.items()
        }
        level = _best_of(problem, outcome.choice, after)
        levels.append((level.status, level.bound))
        outcome = replace(outcome, choice=level.choice, canonical=level.canonical, work=work)
    levels += [(Status.FEASIBLE, -np.inf)] * (goals - len(levels))
    proved = all(status is Status.OPTIMAL for status, _ in levels)
    return replace(
        outcome,
        status=Status.OPTIMAL if proved else Status.FEASIBLE,
        canonical=outcome.canonical and proved,
        levels=tuple(levels),
    )


def _best_of(problem: Problem, before: IntArray, after: Outcome) -> Outcome:
    # A search that ran out of time may come back with nothing better than the plan that is there already.
    bound = after.bound if np.isfinite(after.bound) else -np.inf
    if after.choice is None or after.status is Status.OPTIMAL:
        return after if after.choice is not None else found(problem, before, bound)
    if problem.feasible(before) and problem.objective(before) < problem.objective(after.choice):
        return found(problem, before, bound)
    return after


def _keeping(problem: Problem, cost: FloatArray, outcome: Outcome) -> Problem:
    assert outcome.choice is not None
    terms = problem.cost[np.arange(problem.units), outcome.choice]
    most = float(terms.sum()) + (0.0 if problem.whole_cost else _ROUNDING * float(np.abs(terms).sum()))
    return replace(
        problem,
        cost=cost,
        spend=np.concatenate([problem.spend, problem.cost[None]]),
        limit=np.append(problem.limit, most),
        demand=None if problem.demand is None else np.append(problem.demand, False),
    )
