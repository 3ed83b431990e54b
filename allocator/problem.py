"""The multiple-choice knapsack as dense arrays: what every solver sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


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
    """

    cost: FloatArray
    spend: FloatArray
    limit: FloatArray
    available: BoolArray
    label: IntArray
    bits: FloatArray

    @property
    def units(self) -> int:
        """Number of units U."""
        return len(self.cost)

    @property
    def limits(self) -> int:
        """Number of limits R."""
        return len(self.limit)

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


def masked_cost(problem: Problem) -> FloatArray:
    """Costs with +inf where an option is not available.

    Args:
        problem: The problem.

    Returns:
        (U, O).
    """
    return np.where(problem.available, problem.cost, np.inf)


def masked_spend(problem: Problem) -> FloatArray:
    """Spends with +inf where an option is not available.

    Args:
        problem: The problem.

    Returns:
        (R, U, O).
    """
    return np.where(problem.available, problem.spend, np.inf)


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
