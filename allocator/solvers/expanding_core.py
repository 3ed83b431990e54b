r"""The expanding core: exact for any number of limits, on arrays.

At the optimal multipliers every option has a reduced cost :math:`\rho \ge 0`, and a plan costs at least
:math:`L + \sum_u \rho_{u,x_u}`. Units enter a dynamic program in the order of their smallest reduced cost of leaving
the base option. A state is (spends, cost) relative to the base plan. It dies when its reduced cost, with what the
units still to come must add (:mod:`allocator.solvers.completion`), reaches the incumbent; under one limit also when
another state beats it in spend and cost. The incumbent is proved as soon as the next unit alone would cost more than
the incumbent lies above the bound.

The work depends on how close the incumbent is to the bound, so narrow passes that keep only the most promising states
improve it first; :mod:`allocator.solvers.exact` chooses the widths. A pass that had to drop nothing is the proof.

Source: D. Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", EJOR 83 (1995), here with several
limits, several multipliers and arrays of states.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from allocator.dual import Dual
from allocator.problem import FloatArray, IntArray, Problem, masked_cost
from allocator.solvers.completion import Completion
from allocator.solvers.outcome import Deadline, Effort, Rounding

#: Up to this many states are not worth bounding.
_FEW = 1_000
#: Equally cheap and thrifty plans of one stage that are compared in the order of layers.
_MOST_RIVALS = 100


@dataclass(frozen=True, eq=False)
class Expansion:
    """What the expansion found.

    Attributes:
        choice: (U,) the incumbent; None where no plan was found.
        bound: No plan costs less; +inf where it is proved that there is none.
        canonical: Whether every optimal plan was seen, so that ties are broken.
        work: Counts: units and states that entered, the most states at a time.
    """

    choice: IntArray | None
    bound: float
    canonical: bool
    work: dict[str, int]


def expand_core(
    problem: Problem, dual: Dual, start: IntArray | None, effort: Effort, width: int
) -> Expansion:
    """Search from the Lagrangian plan outwards until the incumbent is proved.

    Args:
        problem: A problem with at least one limit.
        dual: Its maximised dual.
        start: (U,) a plan that keeps the limits, if one is known.
        effort: Gap and time limit; on time-out the incumbent comes with the bound reached.
        width: Most states to keep, the most promising ones.

    Returns:
        The incumbent and what is proved of it. The bound stays below the incumbent where time ran out, the gap was
        good enough, or too many states were alive.
    """
    core = _Core.around(problem, dual, start)
    run = _Pass(core, width)
    run.expand(effort.gap, Deadline(effort.time_limit_s))
    bound = dual.bound + run.floor if run.lossless else dual.bound
    if core.choice is not None:
        bound = min(bound, problem.objective(core.choice))
    # Under one limit states merge, and of merged plans only one is seen.
    canonical = run.complete and problem.limits > 1
    work = {"core_units": len(run.stages), "states": run.states, "peak_states": run.peak_states}
    return Expansion(core.choice, bound, canonical, work)


@dataclass(eq=False)
class _Core:
    problem: Problem
    bound: float  # L
    multipliers: FloatArray  # (R,)
    base: IntArray  # (U,), a minimiser of the Lagrangian
    slack: FloatArray  # (R,), limits - spends of the base; negative where the base breaks a limit
    order: IntArray  # units by the smallest reduced cost of leaving the base
    floor: FloatArray  # (U' + 1,), that reduced cost, rising, and +inf at the end
    reduced: FloatArray  # (U, F), relative to the base option; +inf where there is nothing to enter
    base_cost: float
    choice: IntArray | None  # (U,), the incumbent
    cost: float  # of the incumbent, relative to the base
    rounding: Rounding

    @classmethod
    def around(cls, problem: Problem, dual: Dual, start: IntArray | None) -> _Core:
        units = np.arange(problem.units)
        lagrangian = masked_cost(problem) + np.tensordot(dual.multipliers, problem.spend, axes=1)  # (U, F)
        base = lagrangian.argmin(axis=1)
        reduced = lagrangian - lagrangian[units, base][:, None]
        reduced[units, base] = np.inf
        floor = reduced.min(axis=1)
        order = np.argsort(floor, kind="stable")
        order = order[np.isfinite(floor[order])]
        base_cost = problem.objective(base)
        if start is not None:
            cost = problem.objective(start)
        else:  # every plan is cheaper than this
            worst = np.where(problem.available, problem.cost, -np.inf).max(axis=1).sum()
            cost = worst + 1e-9 * (abs(worst) + abs(dual.bound)) + np.finfo(float).tiny
        return cls(
            problem=problem,
            bound=dual.bound,
            multipliers=dual.multipliers,
            base=base,
            slack=problem.limit - problem.used(base),
            order=order,
            floor=np.append(floor[order], np.inf),
            reduced=reduced,
            base_cost=base_cost,
            choice=start,
            cost=float(cost) - base_cost,
            rounding=Rounding.of(problem, base if start is None else start, dual.multipliers),
        )

    @property
    def excess(self) -> float:
        """How far the incumbent lies above the bound; plans that tie with it stay alive."""
        return self.base_cost + self.cost - self.bound + self.rounding.reduced

    def take(self, choice: IntArray) -> None:
        """Make a plan the incumbent if it is cheaper, or as cheap and earlier in the order of ties."""
        # The sums of a whole plan are rounded otherwise than those of its steps, so they decide.
        if not self.problem.feasible(choice):
            return
        cost = self.problem.objective(choice) - self.base_cost
        tied = self.choice is not None and abs(cost - self.cost) <= self.rounding.cost
        if cost > self.cost + self.rounding.cost or (tied and not self._earlier(choice)):
            return
        self.choice, self.cost = choice, cost
        self.rounding = Rounding.of(self.problem, choice, self.multipliers)

    def _earlier(self, plan: IntArray) -> bool:
        assert self.choice is not None
        used = zip(self.problem.used(plan), self.problem.used(self.choice), self.rounding.spend, strict=True)
        for mine, theirs, rounding in used:
            if abs(mine - theirs) > rounding:
                return bool(mine < theirs)
        different = (plan != self.choice).nonzero()[0]
        return different.size > 0 and bool(plan[different[0]] < self.choice[different[0]])


@dataclass(frozen=True, eq=False)
class _Stage:
    unit: int
    options: IntArray  # options of the unit, the base first
    origin: IntArray  # (S,), option position * width + index of the parent state
    width: int  # number of parent states


class _Pass:
    """One expansion that keeps at most ``width`` states."""

    def __init__(self, core: _Core, width: int) -> None:
        self.core = core
        self.width = width
        self.stages: list[_Stage] = []
        self.states = 0
        self.peak_states = 1
        self.lossless = True
        self.complete = False  # whether every plan that can match the incumbent was seen
        self._seconds_per_state = 0.0
        self.floor = np.inf  # what is unexplored costs at least the bound plus this
        size = int(np.searchsorted(core.floor, core.excess))
        order = core.order[:size]
        base = core.base[order]
        self.spend_step = (
            core.problem.spend[:, order] - core.problem.spend[:, order, base][:, :, None]
        )  # (R, K, F)
        self.cost_step = core.problem.cost[order] - core.problem.cost[order, base][:, None]  # (K, F)
        self.reduced = np.where(core.reduced[order] < core.excess, core.reduced[order], np.inf)  # (K, F)
        self.first_excess = core.excess

    @cached_property
    def completion(self) -> Completion:
        return Completion(self.reduced, self.spend_step, self.core.multipliers, self.first_excess)

    def expand(self, gap: float, deadline: Deadline) -> None:
        core = self.core
        spend, cost = np.zeros((1, core.problem.limits)), np.zeros(1)  # (S, R), (S,)
        self._take_best(spend, cost, None)
        for position in range(len(self.reduced)):
            floor = core.floor[position]
            enough = gap * abs(core.base_cost + core.cost) if core.choice is not None else 0.0
            done = bool(floor >= core.excess - enough)
            if done or deadline.passed() or not self._in_time(cost.size, deadline):
                self.floor = floor
                self.complete = self.lossless and bool(floor >= core.excess)
                return
            start, states = time.monotonic(), cost.size
            spend, cost = self._enter(position, spend, cost)
            self._seconds_per_state = (time.monotonic() - start) / states
            if cost.size == 0:
                break
        self.complete = self.lossless

    def _in_time(self, states: int, deadline: Deadline) -> bool:
        # A unit that enters a million states takes seconds, too long to look at the clock only afterwards.
        left = deadline.left_s()
        return left is None or self._seconds_per_state * states <= left

    def _enter(self, position: int, spend: FloatArray, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
        core = self.core
        width, unit = cost.size, int(core.order[position])
        options = np.append(core.base[unit], (self.reduced[position] < core.excess).nonzero()[0])
        steps, prices = (
            self.spend_step[:, position, options].T,
            self.cost_step[position, options],
        )  # (O, R), (O,)
        spend = (steps[:, None, :] + spend).reshape(-1, core.problem.limits)
        cost = (prices[:, None] + cost).ravel()
        stage = _Stage(unit, options, np.empty(0, dtype=np.int64), width)
        self._take_best(spend[width:], cost[width:], stage, first=width)  # those that stayed are known

        reduced = cost + spend @ core.multipliers
        kept = (reduced + core.floor[position + 1] < core.excess).nonzero()[0]
        if core.problem.limits == 1:
            kept = kept[_undominated(spend[kept, 0], cost[kept])]
        if kept.size > _FEW:
            alive, bound = self.completion.alive(
                position + 1, spend[kept] - core.slack, reduced[kept], core.excess
            )
            kept = kept[alive]
            if kept.size > self.width:
                self.lossless = False
                kept = kept[np.argpartition(bound, self.width)[: self.width]]
        self.stages.append(_Stage(unit, options, kept, width))
        self.states += kept.size
        self.peak_states = max(self.peak_states, kept.size)
        return spend[kept], cost[kept]

    def _take_best(self, spend: FloatArray, cost: FloatArray, stage: _Stage | None, first: int = 0) -> None:
        core = self.core
        rivals = (cost <= core.cost + core.rounding.cost).nonzero()[0]
        if rivals.size:
            rivals = rivals[(spend[rivals] <= core.slack).all(axis=1)]
        if rivals.size == 0:
            return
        rivals = rivals[cost[rivals] <= cost[rivals].min() + core.rounding.cost]
        for row in range(core.problem.limits):  # of equally cheap plans the thriftiest, limit by limit
            amounts = spend[rivals, row]
            rivals = rivals[amounts <= amounts.min() + core.rounding.spend[row]]
        for origin in rivals[:_MOST_RIVALS].tolist():
            core.take(self._walk_back(first + origin, stage))

    def _walk_back(self, origin: int, stage: _Stage | None) -> IntArray:
        choice = self.core.base.copy()
        depth = len(self.stages)
        while stage is not None:
            position, state = divmod(origin, stage.width)
            choice[stage.unit] = stage.options[position]
            depth -= 1
            stage = self.stages[depth] if depth >= 0 else None
            origin = int(stage.origin[state]) if stage is not None else 0
        return choice


def _undominated(spend: FloatArray, cost: FloatArray) -> IntArray:
    order = np.lexsort((cost, spend))
    sorted_cost = cost[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(sorted_cost)[:-1]]) if cost.size else sorted_cost
    return order[sorted_cost < before]
