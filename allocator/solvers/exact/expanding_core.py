r"""The expanding core: exact for any number of limits, on arrays.

At the optimal multipliers every option has a reduced cost :math:`\rho \ge 0`, and a plan costs at least
:math:`L + \sum_u \rho_{u,x_u}`. Units enter a dynamic program in the order of their smallest reduced cost of leaving
the base option. A state is (spends, cost) relative to the base plan. It dies when its reduced cost, with what the
units still to come must add (:mod:`allocator.solvers.exact.completion_bound`), reaches the incumbent; under one
limit also when
another state beats it in spend and cost. The incumbent is proved as soon as the next unit alone would cost more than
the incumbent lies above the bound.

The work depends on how close the incumbent is to the bound, so narrow passes that keep only the most promising states
improve it first; :mod:`allocator.solvers.exact.search` chooses the widths. A pass that had to drop nothing is the
proof.

Source: D. Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", EJOR 83 (1995), here with several
limits, several multipliers and arrays of states.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from allocator.bounds.dual import Dual
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, IntArray, Problem
from allocator.solvers.exact.completion_bound import Completion
from allocator.solvers.exact.core import Core, Expansion, Pace, Stage, walk_back
from allocator.solvers.outcome import Effort

#: Up to this many states are not worth bounding.
_FEW = 1_000


def expand_core(
    problem: Problem, dual: Dual, start: IntArray | None, effort: Effort, width: int
) -> Expansion:
    """Search from the Lagrangian plan outwards until the incumbent is proved.

    Args:
        problem: A problem with at least one limit.
        start: (U,) a plan that keeps the limits, if one is known.
        effort: Gap and time limit; on time-out the incumbent comes with the bound reached.
        width: Most states to keep, the most promising ones.

    Returns:
        The incumbent and what is proved of it. The bound stays below the incumbent where time ran out, the gap was
        good enough, or too many states were alive.
    """
    core = Core.around(problem, dual, start)
    run = _Pass(core, width)
    run.expand(effort.gap, Deadline(effort.time_limit_s))
    bound = np.inf if run.complete else dual.bound
    if run.lossless and not run.complete:
        bound += max(run.floor - core.tolerance.reduced, 0.0)
    if core.choice is not None:
        bound = min(bound, problem.objective(core.choice))
    # Under one limit states merge, and of merged plans only one is seen.
    canonical = run.complete and core.all_rivals and problem.limits > 1
    work = {"core_units": len(run.stages), "states": run.states, "peak_states": run.peak_states}
    return Expansion(core.choice, bound, canonical, work)


class _Pass:
    """One expansion that keeps at most ``width`` states."""

    def __init__(self, core: Core, width: int) -> None:
        self.core = core
        self.width = width
        self.stages: list[Stage] = []
        self.states = 0
        self.peak_states = 1
        self.lossless = True
        self.complete = False  # whether every plan that can match the incumbent was seen
        self.floor = np.inf  # what is unexplored costs at least the bound plus this
        size = int(np.searchsorted(core.floor, core.excess))
        order = core.order[:size]
        self.spend_step, self.cost_step = core.steps(size)  # (R, K, F), (K, F)
        self.reduced = np.where(core.reduced[order] < core.excess, core.reduced[order], np.inf)  # (K, F)
        self.first_excess = core.excess
        # Sums of integers are often equal, and then the dearer of two states leads to no optimal plan.
        self.whole = bool(core.problem.whole_spend.all())

    @cached_property
    def completion(self) -> Completion:
        return Completion(self.reduced, self.spend_step, self.core.multipliers, self.first_excess)

    def expand(self, gap: float, deadline: Deadline) -> None:
        core, pace = self.core, Pace(deadline)
        spend, cost = np.zeros((1, core.problem.limits)), np.zeros(1)  # (S, R), (S,)
        core.take_best(spend, cost, lambda _: core.base)
        for position in range(len(self.reduced)):
            floor = core.floor[position]
            enough = gap * abs(core.base_cost + core.cost) if core.choice is not None else 0.0
            if floor >= core.excess - enough or not pace.allows(cost.size):
                self.floor = floor
                self.complete = self.lossless and bool(floor >= core.excess)
                return
            states = cost.size
            spend, cost = self._enter(position, spend, cost)
            pace.took(states)
            if cost.size == 0:
                break
        self.complete = self.lossless

    def _enter(self, position: int, spend: FloatArray, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
        core = self.core
        width, unit = cost.size, int(core.order[position])
        options = np.append(core.base[unit], (self.reduced[position] < core.excess).nonzero()[0])
        steps = self.spend_step[:, position, options].T  # (O, R)
        prices = self.cost_step[position, options]  # (O,)
        spend = (steps[:, None, :] + spend).reshape(-1, core.problem.limits)
        cost = (prices[:, None] + cost).ravel()
        stage = Stage(unit, options, np.empty(0, dtype=np.int64), width)
        # those that stayed are known
        core.take_best(spend[width:], cost[width:], lambda index: self._plan(width + index, stage))

        reduced = cost + spend @ core.multipliers
        kept = (reduced + core.floor[position + 1] < core.excess).nonzero()[0]
        if core.problem.limits == 1:
            kept = kept[_undominated(spend[kept, 0], cost[kept])]
        elif self.whole and kept.size > _FEW:
            kept = kept[_not_dearer(spend[kept], cost[kept], core.tolerance.cost)]
        if kept.size > _FEW:
            alive, bound = self.completion.alive(
                position + 1, spend[kept] - core.slack, reduced[kept], core.excess
            )
            kept = kept[alive]
            if kept.size > self.width:
                self.lossless = False
                kept = kept[np.argpartition(bound, self.width)[: self.width]]
        self.stages.append(Stage(unit, options, kept, width))
        self.states += kept.size
        self.peak_states = max(self.peak_states, kept.size)
        return spend[kept], cost[kept]

    def _plan(self, origin: int, last: Stage) -> IntArray:
        plan = self.core.base.copy()
        position, state = divmod(origin, last.width)
        plan[last.unit] = last.options[position]
        walk_back(plan, self.stages, state)
        return plan


def _undominated(spend: FloatArray, cost: FloatArray) -> IntArray:
    order = np.lexsort((cost, spend))
    sorted_cost = cost[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(sorted_cost)[:-1]]) if cost.size else sorted_cost
    return order[sorted_cost < before]


def _not_dearer(spend: FloatArray, cost: FloatArray, rounding: float) -> IntArray:
    # Leaves out states that cost more than another one with the same sums; those that cost the same stay, for ties.
    key = spend @ np.sqrt(
        np.arange(2.0, 2 + spend.shape[1])
    )  # of equal sums equal, to find them side by side
    order = np.lexsort((cost, key))
    sums = spend[order]
    first = np.append(True, (sums[1:] != sums[:-1]).any(axis=1))[: order.size]
    cheapest = cost[order][np.maximum.accumulate(np.where(first, np.arange(order.size), 0))]
    return np.sort(order[cost[order] <= cheapest + rounding])
