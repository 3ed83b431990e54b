"""The proved optimum: the dual, a start, and the expanding core; a MIP on the core where too many states are alive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from allocator.dual import Dual, maximise_dual
from allocator.hull import Hull, build_hull
from allocator.problem import FloatArray, IntArray, Problem, masked_cost
from allocator.solvers.core_mip import solve_core
from allocator.solvers.expanding_core import expand_core
from allocator.solvers.outcome import Deadline, Effort, Outcome, found, infeasible, relative_gap
from allocator.solvers.repair import improve, repair
from allocator.solvers.ties import canonical_plan
from allocator.status import Status

_Steps: TypeAlias = tuple[tuple[str, int | None], ...]

#: How the search goes on after a first narrow pass, until the plan is proved: passes of the expanding core that keep so
#: many states, and MIPs on the core with so many nodes. One limit needs few states, thanks to dominance. With several,
#: a wide gap means too many states for the passes, and a narrow one over many units too many nodes for the MIP.
_FIRST_WIDTH = 500
_ONE_LIMIT: _Steps = (("states", 3_000), ("states", 3_000_000), ("nodes", None))
_NARROW_GAP: _Steps = (
    ("states", 10_000),
    ("states", 50_000),
    ("nodes", 500),
    ("states", 1_000_000),
    ("nodes", None),
)
_WIDE_GAP: _Steps = (
    ("nodes", 500),
    ("states", 10_000),
    ("states", 50_000),
    ("states", 1_000_000),
    ("nodes", None),
)
#: Distance between incumbent and bound, relative to the bound, that counts as wide.
_WIDE = 6e-4


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
    outcome = Outcome(Status.NO_SOLUTION, _start(problem, dual), dual.bound, work)
    if problem.limits == 1:
        steps = _ONE_LIMIT
    else:
        outcome = _by_states(problem, dual, outcome, Effort(effort.gap, deadline.left_s()), _FIRST_WIDTH)
        steps = _WIDE_GAP if _gap(problem, outcome) > _WIDE else _NARROW_GAP
    for kind, size in steps:
        effort.tell(problem, outcome.choice, outcome.bound)
        if _settled(problem, outcome, effort.gap) or (deadline.passed() and outcome.work is not work):
            break
        asked = replace(effort, time_limit_s=deadline.left_s())
        if kind == "states":
            assert size is not None
            outcome = _by_states(problem, dual, outcome, asked, size)
        else:
            outcome = solve_core(problem, dual, outcome.choice, replace(asked, node_limit=size), outcome.work)
    return _break_ties(problem, dual, outcome)


def _by_states(problem: Problem, dual: Dual, before: Outcome, effort: Effort, width: int) -> Outcome:
    core = expand_core(problem, dual, before.choice, effort, width)
    work = {name: before.work.get(name, 0) + count for name, count in core.work.items()}
    for peak in ("peak_states", "core_units"):
        work[peak] = max(before.work.get(peak, 0), core.work[peak])
    work = {**before.work, **work}
    if core.choice is not None:
        return found(problem, core.choice, core.bound, work, canonical=core.canonical)
    return (
        infeasible(work) if np.isposinf(core.bound) else Outcome(Status.NO_SOLUTION, None, core.bound, work)
    )


def _gap(problem: Problem, outcome: Outcome) -> float:
    return (
        np.inf if outcome.choice is None else relative_gap(problem.objective(outcome.choice), outcome.bound)
    )


def _settled(problem: Problem, outcome: Outcome, gap: float) -> bool:
    if outcome.status in {Status.OPTIMAL, Status.INFEASIBLE}:
        return True
    return outcome.status is Status.FEASIBLE and _gap(problem, outcome) <= gap


def _break_ties(problem: Problem, dual: Dual, outcome: Outcome) -> Outcome:
    if outcome.status is not Status.OPTIMAL or outcome.choice is None or problem.limits > 1:
        return outcome
    plan = canonical_plan(problem, dual, outcome.choice)
    return outcome if plan is None else replace(outcome, choice=plan, canonical=True)


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
