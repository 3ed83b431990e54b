r"""One limit, exactly: the expanding core of Pisinger's minimal algorithm, on arrays.

At the optimal multiplier every option has a reduced cost :math:`\rho \ge 0`, and a plan costs at least
:math:`L + \sum_u \rho_{u,x_u}`. Units enter a dynamic program in the order of the smallest reduced cost of leaving
their base option. A state is (spend, cost) relative to the base plan; a state dies when another beats it in both, or
when its reduced cost plus the smallest one still to come reaches the incumbent. The incumbent is proved as soon as
the next unit alone would cost more than the incumbent lies above the bound.

Source: D. Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", EJOR 83 (1995).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from allocator.dual import Dual
from allocator.problem import FloatArray, IntArray, Problem, masked_cost
from allocator.solvers.outcome import Deadline, Effort, Outcome, found


def expand_core(problem: Problem, dual: Dual, effort: Effort) -> Outcome:
    """Solve a problem with one limit to proved optimality.

    Args:
        problem: A problem with exactly one limit that some plan can keep.
        dual: Its maximised dual, with a choice that keeps the limit.
        effort: Gap and time limit; on time-out the incumbent comes with the bound reached.

    Returns:
        The plan, with the number of units and states that entered the core.
    """
    core = _Core.around(problem, dual)
    deadline = Deadline(effort.time_limit_s)
    spend, cost = np.zeros(1), np.zeros(1)  # (S,) states, spend rising and cost falling
    for position, floor in enumerate(core.floor[:-1]):
        if spend.size == 0:
            return core.outcome(np.inf)
        if floor >= core.excess - effort.gap * abs(core.objective) or deadline.passed():
            return core.outcome(floor)
        spend, cost = core.enter(position, spend, cost)
    return core.outcome(np.inf)


@dataclass(frozen=True, eq=False)
class _Stage:
    unit: int
    options: IntArray  # options of the unit that entered, the base apart
    origin: IntArray  # (S,), option position * width + index of the parent state; position 0 is the base
    width: int  # number of parent states


@dataclass(eq=False)
class _Core:
    problem: Problem
    bound: float  # L
    multiplier: float
    base: IntArray  # (U,), keeps the limit
    order: IntArray  # units by the smallest reduced cost of leaving the base
    floor: FloatArray  # (U' + 1,), that reduced cost, rising, and +inf at the end
    reduced: FloatArray  # (U, F), relative to the base option; +inf where there is nothing to enter
    incumbent: float = 0.0  # cost relative to the base
    trail: tuple[int, int] | None = None  # stage of the incumbent, and its origin there
    stages: list[_Stage] = field(default_factory=list)
    peak_states: int = 1

    @classmethod
    def around(cls, problem: Problem, dual: Dual) -> _Core:
        units = np.arange(problem.units)
        multiplier = float(dual.multipliers[0])
        lagrangian = masked_cost(problem) + multiplier * problem.spend[0]  # (U, F)
        base = _split(problem, lagrangian, dual.choice)
        reduced = lagrangian - lagrangian[units, base][:, None]
        reduced[units, base] = np.inf
        floor = reduced.min(axis=1)
        order = np.argsort(floor, kind="stable")
        order = order[np.isfinite(floor[order])]
        return cls(problem, dual.bound, multiplier, base, order, np.append(floor[order], np.inf), reduced)

    def __post_init__(self) -> None:
        self.base_cost = self.problem.objective(self.base)
        self.slack = float((self.problem.limit - self.problem.used(self.base))[0])

    @property
    def objective(self) -> float:
        """Cost of the incumbent."""
        return self.base_cost + self.incumbent

    @property
    def excess(self) -> float:
        """How far the incumbent lies above the bound."""
        return self.objective - self.bound

    def enter(self, position: int, spend: FloatArray, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
        # Let the next unit leave its base, take a better incumbent, and let hopeless states die.
        unit, width = int(self.order[position]), spend.size
        options = np.flatnonzero(self.reduced[unit] < self.excess)
        columns = np.append(self.base[unit], options)
        steps = self.problem.spend[0, unit, columns] - self.problem.spend[0, unit, columns[0]]
        prices = self.problem.cost[unit, columns] - self.problem.cost[unit, columns[0]]
        spend, cost = np.add.outer(steps, spend).ravel(), np.add.outer(prices, cost).ravel()

        origin = np.flatnonzero(cost + self.multiplier * spend < self.excess)
        origin = origin[np.lexsort((cost[origin], spend[origin]))]
        falling = cost[origin]
        falling[1:] = np.minimum.accumulate(falling)[:-1]  # the best cost before each state
        falling[:1] = np.inf
        origin = origin[cost[origin] < falling]
        spend, cost = spend[origin], cost[origin]

        last = int(np.searchsorted(spend, self.slack, side="right")) - 1
        if last >= 0 and cost[last] < self.incumbent:
            self.incumbent = float(cost[last])
            self.trail = (len(self.stages), int(origin[last]))
        alive = cost + self.multiplier * spend + self.floor[position + 1] < self.excess
        self.stages.append(_Stage(unit, options, origin[alive], width))
        self.peak_states = max(self.peak_states, int(alive.sum()))
        return spend[alive], cost[alive]

    def outcome(self, floor: float) -> Outcome:
        # Walk the incumbent back to a plan; what is unexplored costs at least the bound plus the floor.
        choice = self.base.copy()
        depth, origin = self.trail or (-1, 0)
        for stage in self.stages[depth::-1] if depth >= 0 else ():
            option, state = divmod(origin, stage.width)
            if option:
                choice[stage.unit] = stage.options[option - 1]
            depth -= 1
            origin = int(self.stages[depth].origin[state]) if depth >= 0 else 0
        bound = min(self.bound + floor, self.problem.objective(choice))
        return found(self.problem, choice, bound, core_units=len(self.stages), peak_states=self.peak_states)


def _split(problem: Problem, lagrangian: FloatArray, choice: IntArray) -> IntArray:
    # Units that are tied at the multiplier move to their largest tied option while the limit holds, so that the
    # base plan starts close to the limit.
    units = np.arange(problem.units)
    spend = problem.spend[0]
    lowest = lagrangian[units, choice][:, None]
    ties = lagrangian <= lowest + 1e-13 * np.abs(lowest)
    largest = np.where(ties, spend, -np.inf).argmax(axis=1)
    step = spend[units, largest] - spend[units, choice]
    slack = (problem.limit - problem.used(choice))[0]
    return np.where(np.cumsum(step) <= slack, largest, choice)
