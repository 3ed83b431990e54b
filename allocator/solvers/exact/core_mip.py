"""Reduced-cost fixing, then a MIP with gap 0 on what is left: for cores with too many states to enumerate.

An option whose reduced cost exceeds incumbent - bound is in no better plan. The rest is the core: first only the units
that are cheapest to move, to find a better incumbent and so fix more, then all of it, which is the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from allocator.bounds.dual import Dual
from allocator.contract.status import Status
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import BoolArray, FloatArray, IntArray, Problem, lagrangian_cost
from allocator.knapsack.reductions import fix_single_options
from allocator.solvers.outcome import Effort, Outcome, found, infeasible

#: Units in the first core; later ones are four times as large.
_FIRST_CORE = 40
#: Options are fixed only beyond the rounding of the bound.
_MARGIN = 1e-12


def solve_core(
    problem: Problem, dual: Dual, incumbent: IntArray | None, effort: Effort, work: Mapping[str, int]
) -> Outcome:
    """Solve a problem to proved optimality by MIPs on growing cores.

    Args:
        problem: The problem.
        dual: Its maximised dual.
        incumbent: (U,) a plan that keeps the limits, if one is known.
        effort: Gap, time and node limit; when one is reached the incumbent comes with the bound reached.
        work: What was done before.

    Returns:
        The plan, with the number of free units and of branch-and-bound nodes.
    """
    deadline = Deadline(effort.time_limit_s)
    from allocator.solvers.mip import highs  # scipy.optimize takes longer to import than most plans to solve

    reduced = _reduced_costs(problem, dual)
    core, nodes = _FIRST_CORE, 0
    while True:
        excess = np.inf if incumbent is None else problem.objective(incumbent) - dual.bound
        alive = problem.available & (reduced <= excess + _MARGIN * abs(dual.bound))
        kept, whole = _cheapest_to_move(alive, reduced, dual.choice if incumbent is None else incumbent, core)
        smaller = fix_single_options(problem, kept)
        outcome = highs.solve(smaller.problem, replace(effort, time_limit_s=deadline.left_s()))
        nodes += outcome.work.get("nodes", 0)
        if outcome.choice is not None:
            candidate = smaller.undo(outcome.choice)
            if incumbent is None or problem.objective(candidate) < problem.objective(incumbent):
                incumbent = candidate
                effort.tell(problem, incumbent, dual.bound)
        unfinished = outcome.status not in {Status.OPTIMAL, Status.INFEASIBLE} and effort.gap == 0
        if whole or unfinished or deadline.passed():
            proved = whole and outcome.status in {Status.OPTIMAL, Status.INFEASIBLE}
            bound = max(dual.bound, outcome.bound + smaller.fixed_cost) if whole else dual.bound
            done = dict(work) | {"mip_units": smaller.problem.units, "nodes": nodes}
            return _settle(problem, incumbent, bound, proved, done)
        core *= 4


def _settle(
    problem: Problem, incumbent: IntArray | None, bound: float, proved: bool, work: dict[str, int]
) -> Outcome:
    if incumbent is None:
        return infeasible(work) if proved else Outcome(Status.NO_SOLUTION, None, bound, work)
    objective = problem.objective(incumbent)
    return found(problem, incumbent, objective if proved else bound, work)


def _reduced_costs(problem: Problem, dual: Dual) -> FloatArray:
    lagrangian = lagrangian_cost(problem, dual.multipliers)
    reduced: FloatArray = lagrangian - lagrangian.min(axis=1, keepdims=True)  # (U, F)
    return reduced


def _cheapest_to_move(
    alive: BoolArray, reduced: FloatArray, plan: IntArray, core: int
) -> tuple[BoolArray, bool]:
    units = np.arange(plan.size)
    others = np.where(alive, reduced, np.inf)
    others[units, plan] = np.inf
    floor = others.min(axis=1)
    movable = np.flatnonzero(np.isfinite(floor))
    if movable.size <= core:
        return alive, True
    kept = np.zeros_like(alive)
    kept[units, plan] = True
    chosen = movable[np.argsort(floor[movable], kind="stable")[:core]]
    kept[chosen] |= alive[chosen]
    return kept, False
