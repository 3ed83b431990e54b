"""The lower convex hulls of all units, merged: every supported plan under one limit from one sort.

The lightest plan comes first; each step then moves one unit to the next corner of its hull, in the order of what a
unit of spend buys. After k steps the plan is optimal for what it spends, and between two of them the next price is
the multiplier that maximises the Lagrangian dual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allocator.knapsack.problem import (
    FloatArray,
    IntArray,
    Problem,
    ascending,
    least,
    masked_cost,
    masked_spend,
)


@dataclass(frozen=True, eq=False)
class Hull:
    """Supported plans as a start and an ordered list of single-unit steps.

    Attributes:
        start: (U,) the lightest option of each unit, the cheapest among equals.
        unit: (N,) unit of each step.
        option: (N,) option that the unit moves to.
        price: (N,) cost saved per unit of spend, falling.
        spend: (N + 1,) spend after each number of steps.
        cost: (N + 1,) cost after each number of steps.
    """

    start: IntArray
    unit: IntArray
    option: IntArray
    price: FloatArray
    spend: FloatArray
    cost: FloatArray

    def plan(self, steps: int) -> IntArray:
        """The plan after some steps.

        Args:
            steps: How many.

        Returns:
            (U,) options.
        """
        choice = self.start.copy()
        choice[self.unit[:steps]] = self.option[:steps]  # of several steps of a unit the last one counts
        return choice

    def within(self, limit: float) -> int:
        """Return how many steps a limit allows, in order; -1 where even the start spends more."""
        return int(np.searchsorted(self.spend, limit, side="right")) - 1


def build_hull(problem: Problem, row: int = 0) -> Hull:
    """Build the hulls of all units against one limit.

    Args:
        row: Index of the limit; the others are ignored.

    Returns:
        The merged hull.

    Example:
        >>> one = np.ones((2, 3), dtype=bool)
        >>> cost, spend = np.array([[9.0, 4.0, 1.0], [8.0, 7.0, 0.0]]), np.array([[[1.0, 2.0, 4.0], [1.0, 2.0, 3.0]]])
        >>> hull = build_hull(Problem(cost, spend, np.array([6.0]), one, np.arange(3) * one, np.arange(3.0)))
        >>> hull.start.tolist(), list(zip(hull.unit.tolist(), hull.option.tolist())), hull.price.tolist()
        ([0, 0], [(0, 1), (1, 2), (0, 2)], [5.0, 4.0, 1.5])
    """
    cost, spend = masked_cost(problem), masked_spend(problem)[row]
    ties = spend <= least(spend)[:, None]
    start = np.where(ties, cost, np.inf).argmin(axis=1)
    found: list[tuple[IntArray, IntArray, IntArray, FloatArray]] = []  # unit, from, to, price
    active, here = np.arange(problem.units), start
    while active.size:
        rows = np.arange(active.size)
        gain = cost[rows, here][:, None] - cost  # (A, F), of the units that still move
        more = spend - spend[rows, here][:, None]
        price = np.divide(gain, more, out=np.zeros_like(gain), where=(more > 0) & (gain > 0))
        best = price[rows, price.argmax(axis=1)]
        # Of options on one line the nearest comes first, so that every supported plan is passed.
        nearest = np.where(price >= best[:, None], more, np.inf).argmin(axis=1)
        moving = (best > 0).nonzero()[0]
        found.append((active[moving], here[moving], nearest[moving], best[moving]))
        active, here = active[moving], nearest[moving]
        if moving.size < rows.size:
            cost, spend = cost.take(moving, axis=0), spend.take(moving, axis=0)
    unit, before, option, price = (np.concatenate(column) for column in zip(*found, strict=True))
    # Rounding must not let a unit's second step overtake its first: prices of a unit fall, and the sort is stable.
    order = ascending(-price)
    unit, option, before, price = unit[order], option[order], before[order], price[order]
    units, costs, spends = np.arange(problem.units), problem.cost, problem.spend[row]
    spent = spends[unit, option] - spends[unit, before]
    saved = costs[unit, option] - costs[unit, before]
    return Hull(
        start=start,
        unit=unit,
        option=option,
        price=price,
        spend=np.cumsum(np.concatenate([[spends[units, start].sum()], spent])),
        cost=np.cumsum(np.concatenate([[costs[units, start].sum()], saved])),
    )
