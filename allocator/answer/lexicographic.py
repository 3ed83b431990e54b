"""Several objectives in falling order of importance: each is optimised among the plans that are best in all before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from allocator.contract.status import Status
from allocator.knapsack.compile import Compiled, with_cost
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, Problem
from allocator.solvers.outcome import Effort, Outcome, Solver

#: An objective counts as kept within the rounding of a sum of doubles.
_ROUNDING = 1e-12


def solve_in_order(compiled: Compiled, run: Solver, effort: Effort) -> Outcome:
    """Solve for the first objective, then for the next among equally good plans, and so on.

    Args:
        compiled: The compiled request.
        run: The solver.
        effort: Gap and time limit for all solves together.

    Returns:
        The outcome of the first objective, with the plan that the last one chose. Stops early where an objective is
        not proved, because nothing may be given up for the next one.
    """
    deadline = Deadline(effort.time_limit_s)
    outcome = run(compiled.problem, effort)
    problem = compiled.problem
    for goal in range(1, len(compiled.objectives)):
        if outcome.status is not Status.OPTIMAL or outcome.choice is None:
            return outcome
        problem = _keeping(problem, with_cost(compiled, goal).cost, outcome)
        after = run(problem, Effort(effort.gap, deadline.left_s()))
        if after.choice is None:
            return replace(outcome, canonical=False)
        work = {name: outcome.work.get(name, 0) + count for name, count in after.work.items()}
        outcome = replace(
            outcome, choice=after.choice, canonical=after.canonical, work=dict(outcome.work) | work
        )
        if after.status is not Status.OPTIMAL:
            return outcome
    return outcome


def _keeping(problem: Problem, cost: FloatArray, outcome: Outcome) -> Problem:
    assert outcome.choice is not None
    terms = problem.cost[np.arange(problem.units), outcome.choice]
    most = float(terms.sum()) + _ROUNDING * float(np.abs(terms).sum())
    return replace(
        problem,
        cost=cost,
        spend=np.concatenate([problem.spend, problem.cost[None]]),
        limit=np.append(problem.limit, most),
        demand=None if problem.demand is None else np.append(problem.demand, False),
    )
