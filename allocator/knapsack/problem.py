"""The multiple-choice knapsack as dense arrays: what every solver sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from allocator.knapsack.exact_sums import LARGEST_EXACT, grain_of

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

#: Sorting so few values takes no longer than looking for equal ones.
_FEW = 1_000


@dataclass(frozen=True, eq=False)
class Problem:
    r"""Choose one option per unit.

    .. math:: \min_x \sum_u c_{u,x_u} \quad\text{s.t.}\quad \sum_u s_{r,u,x_u} \le b_r \;\; \forall r

    Values where ``available`` is False are meaningless; every unit has at least one available option.

    Attributes:
        cost: (U, O), minimised.
        spend: (R, U, O), one slice per limit.
        limit: (R,).
        available: (U, O), whether a unit may take an option.
        label: (U, O), format that an option gives to all layers of its unit, -1 where they differ.
        bits: (F,), weight bits of each format; like the labels, only the uniform baseline looks at them.
        demand: (R,), whether a limit is the least amount of a row with its sign turned, so that of equally good plans
            the one that spends least of the row is the one with the largest sum; None where no limit is.
    """

    cost: FloatArray
    spend: FloatArray
    limit: FloatArray
    available: BoolArray
    label: IntArray
    bits: FloatArray
    demand: BoolArray | None = None

    @property
    def units(self) -> int:
        """Number of units U."""
        return len(self.cost)

    @property
    def limits(self) -> int:
        """Number of limits R."""
        return len(self.limit)

    @cached_property
    def whole_cost(self) -> bool:
        """Whether costs are integers, and so small that sums over a plan, or of steps between two plans, are exact."""
        return bool(_exact_sums(self.cost[None], self.available)[0])

    @cached_property
    def whole_spend(self) -> BoolArray:
        """(R,) the same of the spends of each limit and the limit itself."""
        return _exact_sums(self.spend, self.available, self.limit)

    def objective(self, choice: IntArray) -> float:
        """Cost of a choice.

        Args:
            choice: (U,) index of the option of each unit.

        Returns:
            The sum of the chosen costs.
        """
        return float(self.cost[np.arange(self.units), choice].sum())

    def used(self, choice: IntArray) -> FloatArray:
        """What a choice spends.

        Args:
            choice: (U,) index of the option of each unit.

        Returns:
            (R,) sums of the chosen spends.
        """
        used: FloatArray = self.spend[:, np.arange(self.units), choice].sum(axis=1)
        return used

    def feasible(self, choice: IntArray) -> bool:
        """Whether a choice takes available options only and keeps every limit.

        Args:
            choice: (U,) index of the option of each unit.

        Returns:
            True when it does.
        """
        available = self.available[np.arange(self.units), choice].all()
        return bool(available and (self.used(choice) <= self.limit).all())


def _exact_sums(values: FloatArray, available: BoolArray, limit: FloatArray | None = None) -> BoolArray:
    # (N,) of (N, U, O) values: whether partial sums of values, and of steps from one option to another, are exact.
    shown = values if available.all() else np.where(available, values, 0.0)
    whole: BoolArray = (shown[:, 0] == np.rint(shown[:, 0])).all(axis=1)  # mostly tells decimals
    if whole.any():
        whole &= (shown == np.rint(shown)).all(axis=(1, 2))
    if limit is not None:
        whole &= limit == np.rint(limit)
    if not whole.any():
        return whole
    largest, smallest = -least(-shown), least(shown)  # (N, U), 0 between them where an option is missing
    reach = np.maximum(np.maximum(largest, -smallest), largest - smallest).sum(axis=1).tolist()
    for row in whole.nonzero()[0].tolist():
        if reach[row] >= LARGEST_EXACT:
            grain = grain_of(shown[row])
            whole[row] = reach[row] < LARGEST_EXACT * grain and (limit is None or limit[row] % grain == 0)
    return whole


def thrift_signs(problem: Problem) -> FloatArray:
    """Which way less is spent of each limit.

    Returns:
        (R,) 1, or -1 for demands, whose sums fall as more is spent.
    """
    if problem.demand is None:
        return np.ones(problem.limits)
    signs: FloatArray = np.where(problem.demand, -1.0, 1.0)
    return signs


def with_limits(problem: Problem, kept: IntArray | BoolArray) -> Problem:
    """The problem with some of its limits only.

    Args:
        kept: Indices of the limits to keep, or (R,) flags.

    Returns:
        The problem without the others.
    """
    demand = None if problem.demand is None else problem.demand[kept]
    return replace(problem, spend=problem.spend[kept], limit=problem.limit[kept], demand=demand)


def masked_cost(problem: Problem) -> FloatArray:
    """Costs with +inf where an option is not available.

    Returns:
        (U, O), not to be written to: where every option is available, the costs themselves.
    """
    return problem.cost if problem.available.all() else np.where(problem.available, problem.cost, np.inf)


def masked_spend(problem: Problem) -> FloatArray:
    """Spends with +inf where an option is not available.

    Returns:
        (R, U, O), not to be written to: where every option is available, the spends themselves.
    """
    return problem.spend if problem.available.all() else np.where(problem.available, problem.spend, np.inf)


def weighted(spend: FloatArray, weights: FloatArray) -> FloatArray:
    """Add up the limits, each with a weight, in their order: a product of matrices would be rounded as BLAS pleases.

    Args:
        spend: (R, ...).
        weights: (R,).

    Returns:
        (...).

    Example:
        >>> weighted(np.array([[1.0, 2.0], [10.0, 20.0]]), np.array([3.0, 0.5])).tolist()
        [8.0, 16.0]
    """
    total: FloatArray | None = None
    for row, weight in zip(spend, weights.tolist(), strict=True):
        if weight:
            total = weight * row if total is None else np.add(total, weight * row, out=total)
    return np.zeros(spend.shape[1:]) if total is None else total


def lagrangian_cost(problem: Problem, multipliers: FloatArray) -> FloatArray:
    """What options cost when what they spend has a price.

    Args:
        multipliers: (R,) prices of one unit of each limit.

    Returns:
        (U, O), +inf where an option is not available.
    """
    return masked_cost(problem) + weighted(problem.spend, multipliers)


def least(values: FloatArray) -> FloatArray:
    """The smallest value of each short row, several times as fast as ``values.min(axis=-1)``.

    Args:
        values: (..., O).

    Returns:
        (...,).

    Example:
        >>> least(np.array([[3.0, 1.0], [2.0, 5.0]])).tolist()
        [1.0, 2.0]
    """
    rows = values.reshape(-1, values.shape[-1])
    found: FloatArray = rows[np.arange(len(rows)), rows.argmin(axis=1)].reshape(values.shape[:-1])
    return found


def ascending(values: FloatArray) -> IntArray:
    """Indices that sort values, equal ones in their order; several times as fast as a stable sort where none are equal.

    Args:
        values: (N,), none NaN.

    Returns:
        (N,).

    Example:
        >>> ascending(np.array([2.0, 1.0, 2.0])).tolist()
        [1, 0, 2]
    """
    if values.size < _FEW:
        return np.argsort(values, kind="stable")
    order: IntArray = np.argsort(values)
    rising = values[order]
    return np.argsort(values, kind="stable") if (rising[1:] == rising[:-1]).any() else order
