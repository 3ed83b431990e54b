r"""The Lagrangian dual of the multiple-choice knapsack.

.. math:: L(\lambda) = \sum_u \min_f \big(c_{u,f} + \sum_r \lambda_r s_{r,u,f}\big) - \sum_r \lambda_r b_r,
          \qquad \lambda \ge 0

L is concave and piecewise linear, each value bounds the optimum from below, and its maximum equals the optimum of
the linear relaxation. The multipliers are the shadow prices of the limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from allocator.bounds.cutting_planes import Master
from allocator.bounds.hull import Hull, build_hull
from allocator.knapsack.deadline import NEVER, Deadline
from allocator.knapsack.problem import (
    FloatArray,
    IntArray,
    Problem,
    least,
    masked_cost,
    masked_spend,
    weighted,
)

_MAX_EVALUATIONS = 500
_LARGEST_BOX = 1e8
#: The model and the best value agree, relative to the range of costs.
_CLOSED = 1e-9
#: Rounding of a sum of doubles, relative to its terms.
_ROUNDING = 1e-14


@dataclass(frozen=True, eq=False)
class Dual:
    """The best lower bound that multipliers give.

    Attributes:
        multipliers: (R,) price of one unit of each limit, at least 0.
        bound: L at the multipliers: no plan costs less. +inf when it proves that no plan exists.
        evaluations: How often L was evaluated.
        choice: (U,) a minimiser of the Lagrangian, feasible when one was seen.
    """

    multipliers: FloatArray
    bound: float
    evaluations: int
    choice: IntArray


@dataclass(frozen=True, eq=False)
class _Cut:
    multipliers: FloatArray  # (R,)
    value: float
    slope: FloatArray  # (R,), used - limit at the minimiser
    cost: float
    choice: IntArray  # (U,)


def maximise_dual(problem: Problem, hull: Hull | None = None, deadline: Deadline = NEVER) -> Dual:
    """Maximise the Lagrangian dual.

    Args:
        problem: The problem.
        hull: For one limit, its hull where it is known already; the value of the limit may differ.
        deadline: When to stop with the best multipliers so far, under several limits.

    Returns:
        Multipliers, bound, and the work it took.

    Example:
        >>> import numpy as np
        >>> problem = Problem(
        ...     cost=np.array([[3.0, 0.0]]),
        ...     spend=np.array([[[1.0, 2.0]]]),
        ...     limit=np.array([1.5]),
        ...     available=np.ones((1, 2), dtype=bool),
        ...     label=np.array([[0, 1]]),
        ...     bits=np.array([4.0, 8.0]),
        ... )
        >>> round(maximise_dual(problem).bound, 9)
        1.5
    """
    lagrangian = _Lagrangian(problem)
    if problem.limits == 1:
        hull = build_hull(problem) if hull is None else hull
        # Where not every step fits, the free plan does not either.
        if hull.within(problem.limit[0]) < hull.price.size:
            return _on_hull(lagrangian, hull)
    free = lagrangian.cut(np.zeros(problem.limits))
    if (free.slope <= 0).all():
        return Dual(free.multipliers, free.value, lagrangian.evaluations, free.choice)
    return _by_cutting_planes(lagrangian, free, deadline) if hull is None else _on_hull(lagrangian, hull)


class _Lagrangian:
    """Evaluates L, breaking ties between options by the least spend."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.evaluations = 0
        self.cost = masked_cost(problem)  # (U, F)

    @cached_property
    def dearest(self) -> FloatArray:
        worst: FloatArray = np.where(self.problem.available, self.problem.cost, -np.inf).max(axis=1)  # (U,)
        return worst

    @cached_property
    def worst(self) -> float:
        return float(self.dearest.sum()) * (1 + _ROUNDING) + _ROUNDING * float(np.abs(self.dearest).sum())

    @cached_property
    def cost_range(self) -> float:
        return float((self.dearest - self.cost.min(axis=1)).max()) or 1.0

    @cached_property
    def spend_range(self) -> FloatArray:
        most = -least(np.where(self.problem.available, -self.problem.spend, np.inf))  # (R, U)
        spread = (most - least(masked_spend(self.problem))).max(axis=1)  # (R,)
        return np.where(spread > 0, spread, 1.0)

    @cached_property
    def thrift(self) -> FloatArray:
        thrift: FloatArray = weighted(self.problem.spend, 1 / self.spend_range)  # (U, F)
        return thrift

    def cut(self, multipliers: FloatArray) -> _Cut:
        reduced = self.cost + weighted(self.problem.spend, multipliers)  # (U, F)
        choice = reduced.argmin(axis=1)
        ties = reduced <= reduced[np.arange(choice.size), choice][:, None]
        if np.count_nonzero(ties) > choice.size:
            choice = np.where(ties, self.thrift, np.inf).argmin(axis=1)
        return self._line(multipliers, choice)

    def thriftiest(self, weights: FloatArray) -> _Cut:
        # The line that L follows when the weighted multipliers grow without end.
        spend = weighted(self.problem.spend, weights / self.spend_range)  # (U, F)
        spend[~self.problem.available] = np.inf
        ties = spend <= spend.min(axis=1, keepdims=True)
        return self._line(
            np.full(self.problem.limits, np.inf), np.where(ties, self.cost, np.inf).argmin(axis=1)
        )

    def _line(self, multipliers: FloatArray, choice: IntArray) -> _Cut:
        self.evaluations += 1
        chosen = np.arange(self.problem.units), choice
        spends, costs = self.problem.spend[:, *chosen], self.problem.cost[chosen]  # (R, U), (U,)
        slope = spends.sum(axis=1) - self.problem.limit
        cost = float(costs.sum())
        if not np.isfinite(multipliers).all():
            return _Cut(multipliers, np.nan, slope, cost, choice)
        # Large multipliers blur small costs, so that the choice may miss the minimum by the rounding of its terms.
        spent = np.abs(spends).sum(axis=1) + np.abs(self.problem.limit)  # (R,)
        terms = np.abs(costs).sum() + multipliers @ spent
        value = cost + float(multipliers @ slope) - _ROUNDING * float(terms)
        return _Cut(multipliers, value, slope, cost, choice)


def _on_hull(lagrangian: _Lagrangian, hull: Hull) -> Dual:
    # The steps that fit make the plan, and the price of the next one is the multiplier.
    problem = lagrangian.problem
    steps = hull.within(problem.limit[0])
    if (
        steps < 0 or steps >= hull.price.size
    ):  # the free plan does not fit, so neither can all steps but by rounding
        plan = hull.plan(max(steps, 0))
        if not problem.feasible(plan):
            return Dual(np.zeros(1), np.inf, lagrangian.evaluations, plan)
        steps = hull.price.size - 1
    plan = hull.plan(steps)
    while not problem.feasible(plan):  # running sums are rounded otherwise than the sum of a plan
        steps -= 1
        plan = hull.plan(steps)
    cut = lagrangian.cut(hull.price[steps : steps + 1])
    return Dual(cut.multipliers, cut.value, lagrangian.evaluations, plan)


def _by_cutting_planes(lagrangian: _Lagrangian, free: _Cut, deadline: Deadline) -> Dual:
    # Kelley's method: the cuts seen so far are an upper model of L, and a small linear program finds its highest
    # point. Multipliers are searched in a box, in units of (range of costs / range of spends).
    scale = lagrangian.cost_range
    unit = scale / lagrangian.spend_range
    model = Master(0.0, free.slope * unit / scale, box=1.0)
    limits = lagrangian.problem.limits
    for row in np.vstack([np.eye(limits), np.ones(limits)]):
        far = lagrangian.thriftiest(row)
        model.cut((far.cost - free.cost) / scale, far.slope * unit / scale)
    best, kept, box = free, None, 1.0
    while lagrangian.evaluations < _MAX_EVALUATIONS and not deadline.passed():
        cut = lagrangian.cut(model.multipliers * unit)
        best = max(best, cut, key=lambda item: item.value)
        if (cut.slope <= 0).all() and (kept is None or cut.cost < kept.cost):
            kept = cut
        if best.value > lagrangian.worst:
            return Dual(best.multipliers, np.inf, lagrangian.evaluations, best.choice)
        if free.cost + model.height * scale - best.value > _CLOSED * scale:
            model.cut((cut.cost - free.cost) / scale, cut.slope * unit / scale)
        elif model.at_edge and box < _LARGEST_BOX:
            box *= 100
            model.widen(box)
        else:
            break
    return Dual(best.multipliers, best.value, lagrangian.evaluations, (kept or best).choice)
