"""The two sides of a band: limits that add up the same numbers with opposite signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allocator.knapsack.problem import BoolArray, FloatArray, IntArray, Problem


@dataclass(frozen=True, eq=False)
class Bands:
    r"""The limits of a problem as rows between two amounts.

    .. math:: a_b \le \sum_u s_{b,u,x_u} \le h_b

    Attributes:
        upper: (B,) index of the limit that keeps each row below its high amount.
        lower: (B,) index of the limit that keeps it above its low amount; -1 where there is none.
        limits: Number of limits R.
    """

    upper: IntArray
    lower: IntArray
    limits: int

    @classmethod
    def of(cls, problem: Problem) -> Bands:
        """Pair the limits that are two sides of one row.

        Returns:
            The rows; a limit without an opposite is a row of its own.

        Example:
            >>> spend = np.array([[[1.0, 2.0]], [[-1.0, -2.0]], [[5.0, 3.0]]])
            >>> problem = Problem(
            ...     cost=np.zeros((1, 2)),
            ...     spend=spend,
            ...     limit=np.array([2.0, -1.0, 9.0]),
            ...     available=np.ones((1, 2), dtype=bool),
            ...     label=np.array([[0, 1]]),
            ...     bits=np.array([4.0, 8.0]),
            ... )
            >>> bands = Bands.of(problem)
            >>> bands.upper.tolist(), bands.lower.tolist()
            ([0, 2], [1, -1])
        """
        if problem.limits < 2:
            return cls(np.arange(problem.limits), np.full(problem.limits, -1), problem.limits)
        waiting: dict[bytes, int] = {}  # rows without an opposite so far, by what an opposite would spend
        lower_of: dict[int, int] = {}
        for index, spend in enumerate(problem.spend):
            row = np.where(problem.available, spend, 0.0) + 0.0  # no negative zeros
            opposite = waiting.pop(row.tobytes(), None)
            if opposite is None:
                waiting[(0.0 - row).tobytes()] = index
                lower_of[index] = -1
            else:
                lower_of[opposite] = index
        upper = np.array(list(lower_of), dtype=np.int64)
        return cls(upper, np.array(list(lower_of.values()), dtype=np.int64), problem.limits)

    @property
    def signed(self) -> BoolArray:
        """(B,) whether a row has both sides, so that its price may be negative."""
        two: BoolArray = self.lower >= 0
        return two

    def amounts(self, problem: Problem) -> tuple[FloatArray, FloatArray]:
        """Return what rows stay between: (B,) low amounts, -inf where there is none, and (B,) high amounts."""
        low: FloatArray = np.where(self.signed, -problem.limit[self.lower], -np.inf)
        return low, problem.limit[self.upper]

    def multipliers(self, prices: FloatArray) -> FloatArray:
        """Turn signed prices of rows into multipliers of limits.

        Args:
            prices: (B,) positive where the high amount has a price, negative where the low one has.

        Returns:
            (R,) at least 0.
        """
        multipliers = np.zeros(self.limits)
        multipliers[self.upper] = np.maximum(prices, 0.0)
        multipliers[self.lower[self.signed]] = np.maximum(-prices[self.signed], 0.0)
        return multipliers
