"""Of several optimal plans under one limit, the one that everybody gets: least spend, then layer order.

Among plans that cost the same (to the rounding of a sum of doubles), the one that spends least counts (under a demand:
the one that is nearest to what is demanded); among those,
the first unit takes the earliest option it can have, then the second, and so on. A dynamic program over the units
that an optimal plan may move, from the last to the first, tells which endings exist; a walk from the first unit then
takes the earliest option that some ending completes. (Under several limits the expanding core merges no states, sees
every optimal plan and needs none of this.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from allocator.bounds.dual import Dual
from allocator.knapsack.deadline import NEVER, Deadline
from allocator.knapsack.problem import (
    BoolArray,
    FloatArray,
    IntArray,
    Problem,
    lagrangian_cost,
    thrift_signs,
)
from allocator.solvers.exact.completion_bound import Completion
from allocator.solvers.outcome import SumTolerance

#: Beyond this many endings the plan stays as it was found.
_MOST_ENDINGS = 20_000
#: Up to this many are not worth bounding.
_FEW = 500


def canonical_plan(
    problem: Problem, dual: Dual, choice: IntArray, deadline: Deadline = NEVER
) -> IntArray | None:
    """Replace an optimal plan by the canonical one.

    Args:
        problem: A problem with one limit.
        choice: (U,) an optimal plan.
        deadline: When to give up.

    Returns:
        (U,) the canonical optimal plan; None where there are too many endings to tell, or time is up.
    """
    movable = _Movable.of(problem, dual, choice)
    fronts = movable.endings(deadline)
    if fronts is None:
        return None
    plan = movable.first_in_order(fronts)
    return plan if problem.feasible(plan) else choice


@dataclass(frozen=True, eq=False)
class _Movable:
    base: IntArray  # (U,)
    units: IntArray  # (K,) units that an optimal plan may move off their base, in order
    spend_step: FloatArray  # (K, F), relative to the base
    cost_step: FloatArray  # (K, F)
    reduced: FloatArray  # (K, F), +inf for options in no optimal plan
    multiplier: float
    slack: float
    target: float  # cost of an optimal plan relative to the base
    excess: float  # of an optimal plan over the bound
    tolerance: SumTolerance
    demand: bool  # whether the lightest plan is the one with the largest sum

    @classmethod
    def of(cls, problem: Problem, dual: Dual, choice: IntArray) -> _Movable:
        rows = np.arange(problem.units)
        lagrangian = lagrangian_cost(problem, dual.multipliers)  # (U, F)
        base = lagrangian.argmin(axis=1)
        reduced = lagrangian - lagrangian[rows, base][:, None]
        objective = problem.objective(choice)
        tolerance = SumTolerance.of(problem, choice, dual.multipliers)
        excess = objective - dual.bound + tolerance.reduced
        possible = reduced <= excess
        possible[rows, base] = True
        units = (possible.sum(axis=1) > 1).nonzero()[0]
        at = base[units]
        return cls(
            base=base,
            units=units,
            spend_step=problem.spend[0, units] - problem.spend[0, units, at][:, None],
            cost_step=problem.cost[units] - problem.cost[units, at][:, None],
            reduced=np.where(possible[units], reduced[units], np.inf),
            multiplier=float(dual.multipliers[0]),
            slack=float((problem.limit - problem.used(base))[0]),
            target=objective - problem.objective(base) + tolerance.cost,
            excess=excess,
            tolerance=tolerance,
            demand=bool(thrift_signs(problem)[0] < 0),
        )

    @cached_property
    def completion(self) -> Completion:
        # From the last unit to the first, so that "to come" are the units before.
        multipliers = np.array([self.multiplier])
        return Completion(self.reduced[::-1], self.spend_step[None, ::-1], multipliers, self.excess)

    def endings(self, deadline: Deadline) -> list[tuple[FloatArray, FloatArray]] | None:
        # (spend, cost) of every way to go on after each unit; None where there are too many, or time is up.
        spend, cost = np.zeros(1), np.zeros(1)  # (S,), spend rising and cost falling
        fronts = [(spend, cost)]
        for position, unit in enumerate(range(self.units.size - 1, -1, -1), start=1):
            if deadline.passed():
                return None
            options = np.isfinite(self.reduced[unit]).nonzero()[0]
            spend = np.add.outer(self.spend_step[unit, options], spend).ravel()
            cost = np.add.outer(self.cost_step[unit, options], cost).ravel()
            kept = (cost + self.multiplier * spend <= self.excess).nonzero()[0]
            kept = kept[np.lexsort((cost[kept], spend[kept]))]
            kept = kept[self._worth_keeping(spend[kept], cost[kept])]
            spend, cost = spend[kept], cost[kept]
            if spend.size > _FEW:
                over = spend[:, None] - self.slack
                alive, _ = self.completion.alive(position, over, cost + self.multiplier * spend, self.excess)
                if alive.size > _MOST_ENDINGS:
                    return None
                spend, cost = spend[alive], cost[alive]
            fronts.append((spend, cost))
        return fronts[::-1]

    def _worth_keeping(self, spend: FloatArray, cost: FloatArray) -> BoolArray:
        # Of rising spends: those that cost less than all before. For a demand a larger sum counts, however dear.
        if self.demand:
            return np.append(True, (spend[1:] > spend[:-1]) | (cost[1:] > cost[:-1]))[: spend.size]
        before = np.append(np.inf, np.minimum.accumulate(cost))[: spend.size]
        return cost < before

    def first_in_order(self, fronts: list[tuple[FloatArray, FloatArray]]) -> IntArray:
        plan = self.base.copy()
        spend, cost = fronts[0]
        optimal = spend[(cost <= self.target) & (spend <= self.slack + self.tolerance.spend[0])]
        if optimal.size == 0:
            return plan
        least, most = -np.inf, optimal.min() + self.tolerance.spend[0]
        if self.demand:
            least, most = optimal.max() - self.tolerance.spend[0], self.slack + self.tolerance.spend[0]
        spent = paid = 0.0
        for position, unit in enumerate(self.units.tolist()):
            after, rest = fronts[position + 1]
            for option in np.isfinite(self.reduced[position]).nonzero()[0].tolist():
                now = spent + float(self.spend_step[position, option])
                price = paid + float(self.cost_step[position, option])
                if ((rest + price <= self.target) & (after + now <= most) & (after + now >= least)).any():
                    plan[unit], spent, paid = option, now, price
                    break
        return plan
