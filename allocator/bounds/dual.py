r"""The Lagrangian dual of the multiple-choice knapsack.

.. math:: L(\lambda) = \sum_u \min_f \big(c_{u,f} + \sum_r \lambda_r s_{r,u,f}\big) - \sum_r \lambda_r b_r,
          \qquad \lambda \ge 0

L is concave and piecewise linear, each value bounds the optimum from below, and its maximum equals the optimum of
the linear relaxation. The multipliers are the shadow prices of the limits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from allocator.bounds.cutting_planes import Master
from allocator.bounds.hull import Hull, build_hull
from allocator.knapsack.bands import Bands
from allocator.knapsack.components import assembled, connected_components
from allocator.knapsack.deadline import NEVER, Deadline
from allocator.knapsack.problem import (
    FloatArray,
    IntArray,
    Problem,
    least,
    masked_cost,
    weighted,
    with_limits,
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
        complete: Whether time sufficed: else the bound holds, but other multipliers may give a better one.
    """

    multipliers: FloatArray
    bound: float
    evaluations: int
    choice: IntArray
    complete: bool = True


@dataclass(frozen=True, eq=False)
class _Cut:
    prices: FloatArray  # (B,), of rows: negative where the low amount of a band has a price
    value: float
    slope: FloatArray  # (B,), used - amount at the minimiser
    cost: float
    choice: IntArray  # (U,)


def maximise_dual(problem: Problem, hull: Hull | None = None, deadline: Deadline = NEVER) -> Dual:
    """Maximise the Lagrangian dual.

    Limits that touch different units are priced apart, and the two sides of a band share one price: at the maximum one
    of them costs nothing.

    Args:
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
    parts = connected_components(problem)
    if len(parts) == 1 and parts[0].problem is problem:
        return _maximise(problem, hull, deadline)
    duals = [_maximise(part.problem, None, deadline) for part in parts]
    multipliers = np.zeros(problem.limits)
    for part, dual in zip(parts, duals, strict=True):
        multipliers[part.limits] = dual.multipliers
    bounds = np.array([dual.bound for dual in duals])
    return Dual(
        multipliers,
        float(bounds.sum() - _ROUNDING * np.abs(bounds).sum()) if np.isfinite(bounds).all() else np.inf,
        sum(dual.evaluations for dual in duals),
        assembled(problem, [(part, dual.choice) for part, dual in zip(parts, duals, strict=True)]),
        all(dual.complete for dual in duals),
    )


def _maximise(problem: Problem, hull: Hull | None, deadline: Deadline) -> Dual:
    bands = Bands.of(problem)
    if problem.limits == 2 and bands.signed.all():
        return _by_sides(problem)
    lagrangian = _Lagrangian(problem, bands)
    if problem.limits == 1:
        hull = build_hull(problem) if hull is None else hull
        # Where not every step fits, the free plan does not either.
        if hull.within(problem.limit[0]) < hull.price.size:
            return _on_hull(lagrangian, hull)
    free = lagrangian.cut(np.zeros(bands.upper.size))
    if lagrangian.holds(free):
        return Dual(np.zeros(problem.limits), free.value, lagrangian.evaluations, free.choice)
    return _by_cutting_planes(lagrangian, free, deadline) if hull is None else _on_hull(lagrangian, hull)


def _by_sides(problem: Problem) -> Dual:
    # L is concave in the signed price of the only row, so that where one side has a price the other has none.
    evaluations, duals = 0, []
    for side in (0, 1):
        dual = _maximise(with_limits(problem, np.array([side])), None, NEVER)
        evaluations += dual.evaluations
        multipliers = np.zeros(2)
        multipliers[side] = dual.multipliers[0]
        duals.append(replace(dual, multipliers=multipliers, evaluations=evaluations))
        if multipliers[side] > 0 or np.isposinf(dual.bound):
            return duals[-1]
    return next((dual for dual in duals if problem.feasible(dual.choice)), duals[-1])


class _Lagrangian:
    """Evaluates L, breaking ties between options by the least spend."""

    def __init__(self, problem: Problem, bands: Bands) -> None:
        self.problem = problem
        self.bands = bands
        self.spend = problem.spend if bands.upper.size == problem.limits else problem.spend[bands.upper]
        self.low, self.high = bands.amounts(problem)  # (B,), (B,)
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
        available = self.problem.available
        most = -least(np.where(available, -self.spend, np.inf))  # (B, U)
        spread = (most - least(np.where(available, self.spend, np.inf))).max(axis=1)  # (B,)
        return np.where(spread > 0, spread, 1.0)

    @cached_property
    def thrift(self) -> FloatArray:
        thrift: FloatArray = weighted(self.spend, 1 / self.spend_range)  # (U, F)
        return thrift

    def holds(self, cut: _Cut) -> bool:
        # Whether the minimiser keeps every limit.
        used = self.spend[:, np.arange(cut.choice.size), cut.choice].sum(axis=1)
        return bool((used <= self.high).all() and (used >= self.low).all())

    def cut(self, prices: FloatArray) -> _Cut:
        reduced = self.cost + weighted(self.spend, prices)  # (U, F)
        choice = reduced.argmin(axis=1)
        ties = reduced <= reduced[np.arange(choice.size), choice][:, None]
        if np.count_nonzero(ties) > choice.size:
            choice = np.where(ties, self.thrift, np.inf).argmin(axis=1)
        return self._line(prices, choice)

    def far(self, weights: FloatArray) -> _Cut:
        # The line that L follows when the weighted prices grow without end.
        spend = weighted(self.spend, weights / self.spend_range)  # (U, F)
        spend[~self.problem.available] = np.inf
        ties = spend <= spend.min(axis=1, keepdims=True)
        endless = np.where(weights == 0, 0.0, np.copysign(np.inf, weights))
        return self._line(endless, np.where(ties, self.cost, np.inf).argmin(axis=1))

    def _line(self, prices: FloatArray, choice: IntArray) -> _Cut:
        self.evaluations += 1
        chosen = np.arange(self.problem.units), choice
        spends, costs = self.spend[:, *chosen], self.problem.cost[chosen]  # (B, U), (U,)
        used = spends.sum(axis=1)
        # Of a band the side that has a price counts; without a price any amount between the two gives a valid line.
        amount = np.where(prices < 0, self.low, self.high)
        idle = self.bands.signed & (prices == 0)
        amount = np.where(idle, np.clip(used, self.low, self.high), amount)
        slope = used - amount
        cost = float(costs.sum())
        if not np.isfinite(prices).all():
            return _Cut(prices, np.nan, slope, cost, choice)
        # Large prices blur small costs, so that the choice may miss the minimum by the rounding of its terms.
        spent = np.abs(spends).sum(axis=1) + np.abs(amount)  # (B,)
        terms = np.abs(costs).sum() + np.abs(prices) @ spent
        value = cost + float(prices @ slope) - _ROUNDING * float(terms)
        return _Cut(prices, value, slope, cost, choice)


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
    return Dual(cut.prices, cut.value, lagrangian.evaluations, plan)


def _by_cutting_planes(lagrangian: _Lagrangian, free: _Cut, deadline: Deadline) -> Dual:
    # Kelley's method: the cuts seen so far are an upper model of L, and a small linear program finds its highest
    # point. Prices are searched in a box, in units of (range of costs / range of spends).
    bands, scale = lagrangian.bands, lagrangian.cost_range
    unit = scale / lagrangian.spend_range
    model = Master(0.0, free.slope * unit / scale, box=1.0, signed=bands.signed)
    rows = bands.upper.size
    for row in np.vstack([np.eye(rows), np.ones(rows), -np.eye(rows)[bands.signed]]):
        far = lagrangian.far(row)
        model.cut((far.cost - free.cost) / scale, far.slope * unit / scale)
    best, kept, box, closed = free, None, 1.0, False
    while lagrangian.evaluations < _MAX_EVALUATIONS and not (closed or model.stuck or deadline.passed()):
        cut = lagrangian.cut(model.multipliers * unit)
        best = max(best, cut, key=lambda item: item.value)
        if (kept is None or cut.cost < kept.cost) and lagrangian.holds(cut):
            kept = cut
        if best.value > lagrangian.worst:
            return Dual(bands.multipliers(best.prices), np.inf, lagrangian.evaluations, best.choice)
        if free.cost + model.height * scale - best.value > _CLOSED * scale:
            model.cut((cut.cost - free.cost) / scale, cut.slope * unit / scale)
        elif model.at_edge and box < _LARGEST_BOX:
            box *= 100
            model.widen(box)
        else:
            closed = True
    multipliers, choice = bands.multipliers(best.prices), (kept or best).choice
    complete = closed or not deadline.passed()
    return Dual(multipliers, best.value, lagrangian.evaluations, choice, complete)
