"""The proved optimum: the dual first, then the expanding core (one limit) or a MIP on the core (several)."""

from __future__ import annotations

import numpy as np

from allocator.dual import maximise_dual
from allocator.problem import Problem
from allocator.solvers.core_mip import solve_core
from allocator.solvers.expanding_core import expand_core
from allocator.solvers.outcome import Effort, Outcome, found, infeasible


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Find the cheapest plan and prove it.

    Args:
        problem: The problem.
        effort: Gap and time limit.

    Returns:
        Optimal or infeasible; feasible with its bound when time or the requested gap ended the search.
    """
    dual = maximise_dual(problem)
    if np.isposinf(dual.bound):
        return infeasible(dual_evaluations=dual.evaluations)
    if not dual.multipliers.any() and problem.feasible(dual.choice):
        return found(problem, dual.choice, dual.bound, dual_evaluations=dual.evaluations)
    if problem.limits == 1:
        return expand_core(problem, dual, effort)
    return solve_core(problem, dual, effort)
