"""The proved optimum: the dual, a start, and the expanding core; a MIP on the core where too many states are alive."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from allocator.dual import Dual, maximise_dual
from allocator.hull import Hull, build_hull
from allocator.problem import FloatArray, IntArray, Problem, masked_cost
from allocator.solvers.core_mip import solve_core
from allocator.solvers.expanding_core import expand_core
from allocator.solvers.outcome import PROOF_TOLERANCE, Deadline, Effort, Outcome, found, infeasible
from allocator.solvers.repair import improve, repair
from allocator.solvers.ties import canonical_plan
from allocator.status import Status


@dataclass(frozen=True, eq=False)
class Prepared:
    """What depends on the tables but not on the limits.

    Attributes:
        problem: The problem; its limits are only defaults.
        hull: The merged hull, for one limit.
    """

    problem: Problem
    hull: Hull | None


def prepare(problem: Problem) -> Prepared:
    """Do once what every solve with other limits would repeat.

    Args:
        problem: The problem.

    Returns:
        State for :func:`solve_prepared`.
    """
    return Prepared(problem, build_hull(problem) if problem.limits == 1 else None)


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Find the cheapest plan and prove it.

    Args:
        problem: The problem.
        effort: Gap and time limit.

    Returns:
        Optimal or infeasible; feasible with its bound when time or the requested gap ended the search.
    """
    return solve_prepared(Prepared(problem, None), problem.limit, effort)


def solve_prepared(prepared: Prepared, limit: FloatArray, effort: Effort) -> Outcome:
    """Find the cheapest plan within given limits and prove it.

    Args:
        prepared: From :func:`prepare`.
        limit: (R,) limits.
        effort: Gap and time limit.

    Returns:
        Optimal or infeasible; feasible with its bound when time or the requested gap ended the search.
    """
    problem = replace(prepared.problem, limit=limit)
    deadline = Deadline(effort.time_limit_s)
    dual = maximise_dual(problem, prepared.hull)
    return replace(_solve(problem, dual, effort, deadline), prices=dual.multipliers)


def _solve(problem: Problem, dual: Dual, effort: Effort, deadline: Deadline) -> Outcome:
    work = {"dual_evaluations": dual.evaluations}
    if np.isposinf(dual.bound):
        return infeasible(work)
    if not dual.multipliers.any():
        plan = _thriftiest_of_the_cheapest(problem)
        if problem.feasible(plan):
            return found(problem, plan, dual.bound, work, canonical=True)
    core = expand_core(problem, dual, _start(problem, dual), Effort(effort.gap, deadline.left_s()))
    work |= core.work
    if core.choice is None:
        if np.isposinf(core.bound):
            return infeasible(work)
        if deadline.passed():
            return Outcome(Status.NO_SOLUTION, None, core.bound, work)
    elif deadline.passed() or _good_enough(problem.objective(core.choice), core.bound, effort.gap):
        outcome = found(problem, core.choice, core.bound, work, canonical=core.canonical)
        return _break_ties(problem, dual, outcome)
    return solve_core(problem, dual, core.choice, Effort(effort.gap, deadline.left_s()), work)


def _break_ties(problem: Problem, dual: Dual, outcome: Outcome) -> Outcome:
    if outcome.status is not Status.OPTIMAL or outcome.choice is None or problem.limits > 1:
        return outcome
    plan = canonical_plan(problem, dual, outcome.choice)
    return outcome if plan is None else replace(outcome, choice=plan, canonical=True)


def _good_enough(objective: float, bound: float, gap: float) -> bool:
    return objective - bound <= max(gap, PROOF_TOLERANCE) * max(abs(objective), abs(bound))


def _thriftiest_of_the_cheapest(problem: Problem) -> IntArray:
    kept = problem.available & (masked_cost(problem) <= masked_cost(problem).min(axis=1, keepdims=True))
    for spend in problem.spend:
        least = np.where(kept, spend, np.inf)
        kept = least <= least.min(axis=1, keepdims=True)
    first: IntArray = kept.argmax(axis=1)
    return first


def _start(problem: Problem, dual: Dual) -> IntArray | None:
    if problem.limits == 1:
        return dual.choice
    lagrangian = masked_cost(problem) + np.tensordot(dual.multipliers, problem.spend, axes=1)  # (U, F)
    reduced = lagrangian - lagrangian.min(axis=1, keepdims=True)
    plan = repair(problem, dual.choice, reduced)
    return improve(problem, plan) if problem.feasible(plan) else None
