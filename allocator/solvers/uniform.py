"""The best single format that fits: what people ship when they do not allocate."""

from __future__ import annotations

import numpy as np

from allocator.dual import maximise_dual
from allocator.problem import IntArray, Problem
from allocator.solvers.outcome import Effort, Outcome, found, infeasible
from allocator.status import Status


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Give every unit the same option and keep the cheapest such plan within the limits.

    A unit that may not have the option takes its available one with the nearest bit-width (the wider of two).

    Args:
        problem: The problem.
        effort: Ignored; there is nothing to search.

    Returns:
        A plan with the Lagrangian bound, so that its distance to the optimum is known.
    """
    del effort
    dual = maximise_dual(problem)
    if np.isposinf(dual.bound):
        return infeasible({"dual_evaluations": dual.evaluations})
    plans = [
        plan
        for plan in (uniform_plan(problem, option) for option in range(problem.bits.size))
        if problem.feasible(plan)
    ]
    if not plans:
        return Outcome(Status.NO_SOLUTION, None, dual.bound)
    return found(problem, min(plans, key=problem.objective), dual.bound, {"formats_that_fit": len(plans)})


def uniform_plan(problem: Problem, option: int) -> IntArray:
    """Give every unit one option, or its nearest.

    Args:
        problem: The problem.
        option: The option.

    Returns:
        (U,) options.
    """
    nearest = np.lexsort(
        (
            -problem.bits,
            np.abs(problem.bits - problem.bits[option]),
            np.arange(problem.bits.size) != option,
        )
    )
    plan: IntArray = nearest[problem.available[:, nearest].argmax(axis=1)]
    return plan
