"""The best single format that fits: what people ship when they do not allocate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from allocator.bounds.dual import maximise_dual
from allocator.contract.status import Status
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import IntArray, Problem
from allocator.solvers.outcome import Effort, Outcome, found, infeasible


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Give every unit the same option and keep the cheapest such plan within the limits.

    A unit that may not have the option takes its available one with the nearest bit-width (the wider of two).

    Args:
        effort: When time is up, the bound is what is known by then.

    Returns:
        A plan with the Lagrangian bound, so that its distance to the optimum is known.
    """
    dual = maximise_dual(problem, deadline=Deadline(effort.time_limit_s))
    if np.isposinf(dual.bound):
        return infeasible({"dual_evaluations": dual.evaluations})
    prices = dual.multipliers if dual.complete else None
    plans = [uniform_plan(problem, column) for column in range(problem.bits.size)]
    fitting = [plan for plan in plans if problem.feasible(plan)]
    if not fitting:
        return Outcome(Status.NO_SOLUTION, None, dual.bound, prices=prices)
    best = min(fitting, key=problem.objective)
    return replace(found(problem, best, dual.bound, {"formats_that_fit": len(fitting)}), prices=prices)


def uniform_plan(problem: Problem, column: int) -> IntArray:
    """Give every unit one format, or its nearest.

    Returns:
        (U,) options; of several with the format the cheapest, then the lightest (fused, where that saves).
    """
    distance = np.abs(problem.bits - problem.bits[column])
    order = np.lexsort((-problem.bits, distance, np.arange(problem.bits.size) != column))
    rank = np.append(np.argsort(order), problem.bits.size)  # (F + 1,), the last one for mixed options
    ranked = np.where(problem.available, rank[problem.label], problem.bits.size + 1)  # (U, O)
    nearest = ranked <= ranked.min(axis=1, keepdims=True)
    cost = np.where(nearest, problem.cost, np.inf)
    cheapest = cost <= cost.min(axis=1, keepdims=True)
    plan: IntArray = np.where(cheapest, problem.spend.sum(axis=0), np.inf).argmin(axis=1)
    return plan
