r"""Where searches for a better plan start: units in the order of what leaving their base costs, and an incumbent.

At the optimal multipliers every option has a reduced cost :math:`\rho \ge 0`, and a plan costs the bound plus the
reduced costs of its options plus what the room that it leaves is worth. Sums are taken relative to the base plan, the
minimiser of the Lagrangian.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from allocator.bounds.dual import Dual
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import (
    FloatArray,
    IntArray,
    Problem,
    ascending,
    lagrangian_cost,
    least,
    thrift_signs,
)
from allocator.solvers.outcome import SumTolerance

#: Equally cheap and thrifty plans of one batch that are compared in the order of layers.
_MOST_RIVALS = 100


@dataclass(frozen=True, eq=False)
class Expansion:
    """What a search found.

    Attributes:
        choice: (U,) the incumbent; None where no plan was found.
        bound: No plan costs less; +inf where it is proved that there is none.
        canonical: Whether every optimal plan was seen, so that ties are broken.
        work: Counts of what was done.
    """

    choice: IntArray | None
    bound: float
    canonical: bool
    work: Mapping[str, int]


@dataclass(eq=False)
class Core:
    """The order of units and the incumbent, which searches replace by better plans.

    Attributes:
        problem: The problem.
        bound: Value L of the dual.
        multipliers: (R,) at which it has it.
        base: (U,) a minimiser of the Lagrangian.
        slack: (R,) limits minus spends of the base; negative where the base breaks a limit.
        order: (K,) units by the smallest reduced cost of leaving the base; those that cannot are left out.
        floor: (K + 1,) that reduced cost, rising, and +inf at the end.
        reduced: (U, F) relative to the base option; +inf where there is nothing to enter.
        base_cost: Cost of the base.
        choice: (U,) the incumbent, if there is one.
        cost: Cost of the incumbent relative to the base; without one, more than any plan costs.
        tolerance: How far apart equal sums may be.
        all_rivals: Whether every plan that ties with the incumbent and was offered was compared with it.
    """

    problem: Problem
    bound: float
    multipliers: FloatArray
    base: IntArray
    slack: FloatArray
    order: IntArray
    floor: FloatArray
    reduced: FloatArray
    base_cost: float
    choice: IntArray | None
    cost: float
    tolerance: SumTolerance
    all_rivals: bool = True

    @classmethod
    def around(cls, problem: Problem, dual: Dual, start: IntArray | None) -> Core:
        """Put the units in order.

        Args:
            problem: A problem with at least one limit.
            start: (U,) a plan that keeps the limits, if one is known.

        Returns:
            The core, with the start as its incumbent.
        """
        units = np.arange(problem.units)
        lagrangian = lagrangian_cost(problem, dual.multipliers)  # (U, F)
        base = lagrangian.argmin(axis=1)
        reduced = lagrangian - lagrangian[units, base][:, None]
        reduced[units, base] = np.inf
        floor = least(reduced)
        order = ascending(floor)
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
            tolerance=SumTolerance.of(problem, base if start is None else start, dual.multipliers),
        )

    @property
    def excess(self) -> float:
        """How far the incumbent lies above the bound; plans that tie with it stay alive."""
        return self.base_cost + self.cost - self.bound + self.tolerance.reduced

    def steps(self, size: int) -> tuple[FloatArray, FloatArray]:
        """What leaving the base option spends and costs.

        Args:
            size: Number of units, in their order.

        Returns:
            (R, K, F) spends and (K, F) costs.
        """
        order = self.order[:size]
        base = self.base[order]
        spend = self.problem.spend[:, order] - self.problem.spend[:, order, base][:, :, None]
        return spend, self.problem.cost[order] - self.problem.cost[order, base][:, None]

    def take_best(self, spend: FloatArray, cost: FloatArray, plan_of: Callable[[int], IntArray]) -> None:
        """Make the best of many plans the incumbent, if it is better.

        Args:
            spend: (S, R) relative to the base.
            cost: (S,) relative to the base.
            plan_of: Builds the plan of an index.
        """
        rivals = (cost <= self.cost + self.tolerance.cost).nonzero()[0]
        if rivals.size == 0:
            return
        over = (spend[rivals] - self.slack).max(axis=1)
        doubtful = rivals[(over > 0) & (spend[rivals] <= self.slack + self.tolerance.spend).all(axis=1)]
        for index in doubtful[np.argsort(cost[doubtful], kind="stable")[:_MOST_RIVALS]].tolist():
            self._take(plan_of(index))  # whether it keeps the limits depends on how its sum is rounded
        rivals = rivals[over <= 0]
        if rivals.size == 0:
            return
        rivals = rivals[cost[rivals] <= cost[rivals].min() + self.tolerance.cost]
        signs = thrift_signs(self.problem)
        for row in range(self.problem.limits):  # of equally cheap plans the lightest, limit by limit
            amounts = signs[row] * spend[rivals, row]
            rivals = rivals[amounts <= amounts.min() + self.tolerance.spend[row]]
        for index in rivals[:_MOST_RIVALS].tolist():
            self._take(plan_of(index))
        self.all_rivals &= max(rivals.size, doubtful.size) <= _MOST_RIVALS

    def _take(self, choice: IntArray) -> None:
        # The sums of a whole plan are rounded otherwise than those of its steps, so they decide.
        if not self.problem.feasible(choice):
            return
        cost = self.problem.objective(choice) - self.base_cost
        tied = self.choice is not None and abs(cost - self.cost) <= self.tolerance.cost
        if cost > self.cost + self.tolerance.cost or (tied and not self._earlier(choice)):
            return
        self.all_rivals |= not tied
        self.choice, self.cost = choice, cost
        self.tolerance = SumTolerance.of(self.problem, choice, self.multipliers)

    def _earlier(self, plan: IntArray) -> bool:
        assert self.choice is not None
        signs = thrift_signs(self.problem)
        mine, theirs = signs * self.problem.used(plan), signs * self.problem.used(self.choice)
        used = zip(mine, theirs, self.tolerance.spend, strict=True)
        for mine, theirs, tolerance in used:
            if abs(mine - theirs) > tolerance:
                return bool(mine < theirs)
        different = (plan != self.choice).nonzero()[0]
        return different.size > 0 and bool(plan[different[0]] < self.choice[different[0]])


@dataclass(frozen=True, eq=False)
class Stage:
    """The states after one more unit.

    Attributes:
        unit: The unit.
        options: Its options, the base first.
        origin: (S,) of each state: option position * width + index of the parent state.
        width: Number of parent states.
    """

    unit: int
    options: IntArray
    origin: IntArray
    width: int


def walk_back(plan: IntArray, stages: list[Stage], state: int) -> None:
    """Write into a plan what led to a state.

    Args:
        plan: (U,) filled in.
        stages: The stages, in order.
        state: Index of a state of the last stage.
    """
    for stage in reversed(stages):
        position, state = divmod(int(stage.origin[state]), stage.width)
        plan[stage.unit] = stage.options[position]


class Pace:
    """Foresees whether a step will end in time: one over a million states takes too long to look afterwards."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._seconds_per_state = 0.0
        self._start = 0.0

    def allows(self, states: int) -> bool:
        """Ask before a step.

        Args:
            states: How many states it starts from.

        Returns:
            Whether to take it.
        """
        left = self._deadline.left_s()
        if left is None:
            return True
        self._start = time.monotonic()
        return not self._deadline.passed() and self._seconds_per_state * states <= left

    def took(self, states: int) -> None:
        """Tell after a step.

        Args:
            states: How many states it started from.
        """
        self._seconds_per_state = (time.monotonic() - self._start) / states
