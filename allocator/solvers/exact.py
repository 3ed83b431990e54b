"""The proved optimum: the dual, a start, and the expanding core; a MIP on the core where too many states are alive."""

from __future__ import annotations

import numpy as np

from allocator.dual import Dual, maximise_dual
from allocator.problem import FloatArray, IntArray, Problem, masked_cost
from allocator.solvers.core_mip import solve_core
from allocator.solvers.expanding_core import expand_core
from allocator.solvers.outcome import PROOF_TOLERANCE, Deadline, Effort, Outcome, found, infeasible
from allocator.solvers.repair import improve, repair
from allocator.status import Status


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Find the cheapest plan and prove it.

    Args:
        problem: The problem.
        effort: Gap and time limit.

    Returns:
        Optimal or infeasible; feasible with its bound when time or the requested gap ended the search.
    """
    deadline = Deadline(effort.time_limit_s)
    dual = maximise_dual(problem)
    work = {"dual_evaluations": dual.evaluations}
    if np.isposinf(dual.bound):
        return infeasible(**work)
    if not dual.multipliers.any() and problem.feasible(dual.choice):
        return found(problem, dual.choice, dual.bound, **work)
    start = _start(problem, dual)
    core = expand_core(problem, dual, start, Effort(effort.gap, deadline.left_s()))
    work |= core.work
    if core.choice is None:
        if np.isposinf(core.bound):
            return infeasible(**work)
        if deadline.passed():
            return Outcome(Status.NO_SOLUTION, None, core.bound, work)
    elif deadline.passed() or _good_enough(problem.objective(core.choice), core.bound, effort.gap):
        return found(problem, core.choice, core.bound, **work)
    return solve_core(problem, dual, core.choice, Effort(effort.gap, deadline.left_s()), work)


def _good_enough(objective: float, bound: float, gap: float) -> bool:
    return objective - bound <= max(gap, PROOF_TOLERANCE) * max(abs(objective), abs(bound))


def _start(problem: Problem, dual: Dual) -> IntArray | None:
    lagrangian = masked_cost(problem) + np.tensordot(dual.multipliers, problem.spend, axes=1)  # (U, F)
    if problem.limits == 1:
        return _split(problem, lagrangian, dual.choice)
    reduced = lagrangian - lagrangian.min(axis=1, keepdims=True)
    plan = repair(problem, dual.choice, reduced)
    return improve(problem, plan) if problem.feasible(plan) else None


def _split(problem: Problem, lagrangian: FloatArray, choice: IntArray) -> IntArray:
    # Units that are tied at the multiplier move to their largest tied option while the limit holds.
    units = np.arange(problem.units)
    spend = problem.spend[0]
    lowest = lagrangian[units, choice][:, None]
    ties = lagrangian <= lowest + 1e-13 * np.abs(lowest)
    largest = np.where(ties, spend, -np.inf).argmax(axis=1)
    step = spend[units, largest] - spend[units, choice]
    slack = (problem.limit - problem.used(choice))[0]
    plan = np.where(np.cumsum(step) <= slack, largest, choice)
    return plan if problem.feasible(plan) else choice
