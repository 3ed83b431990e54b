"""Reduced-cost fixing, then a MIP on what is left: finds better plans in cores with too many states to enumerate.

An option whose reduced cost exceeds incumbent - bound is in no better plan. The rest is the core: first only the units
that are cheapest to move, to find a better incumbent and so fix more, then all of it. The MIP's tolerances are not
ours, so what it says of its plan is not taken over: the bound stays the Lagrangian one.
"""

from __future__ import annotations

import numpy as np

from allocator.bounds.dual import Dual
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import BoolArray, FloatArray, IntArray, Problem, lagrangian_cost
from allocator.knapsack.reductions import fix_single_options
from allocator.solvers.exact.core import Expansion
from allocator.solvers.narrowing import better
from allocator.solvers.outcome import Effort

#: Units in the first core; later ones are four times as large.
_FIRST_CORE = 40
#: Options are fixed only beyond the rounding of the bound.
_MARGIN = 1e-12


def solve_core(
    problem: Problem, dual: Dual, incumbent: IntArray | None, effort: Effort, most_nodes: int | None
) -> Expansion:
    """Look for a better plan by MIPs on growing cores.

    Args:
        incumbent: (U,) a plan that keeps the limits, if one is known.
        most_nodes: Branch-and-bound nodes to spend on each MIP; None for as many as it takes.

    Returns:
        The best plan, the bound of the dual, and the number of free units and of branch-and-bound nodes.
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
        answer = highs.find(smaller.problem, Effort(effort.gap, deadline.left_s(), most_nodes))
        nodes += answer.work["nodes"]
        if answer.choice is not None:
            candidate = smaller.undo(answer.choice)
            if problem.feasible(candidate):  # the limits of the core are rounded
                incumbent = better(problem, incumbent, candidate)
                effort.tell(problem, incumbent, dual.bound)
        if whole or not (answer.finished or effort.gap) or deadline.passed():
            work = {"mip_units": smaller.problem.units, "nodes": nodes}
            return Expansion(incumbent, dual.bound, canonical=False, work=work)
        core *= 4


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
