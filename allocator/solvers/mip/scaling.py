"""The problem as flat binaries with coefficients of sizes that MIP solvers read well."""

from __future__ import annotations

import numpy as np

from allocator.knapsack.problem import FloatArray, IntArray, Problem

#: Size of the largest cost given to a MIP solver. Solvers compare with absolute tolerances near 1e-6, so that costs of
#: this size are told apart to one part in 10¹².
COST_SCALE = 1e6


class ScaledProblem:
    """One binary per available option, coefficients brought to sizes that solvers with absolute tolerances read well.

    Args:
        limit: (R,) limits to use in place of the problem's own.

    Attributes:
        unit: (N,) unit of each binary.
        option: (N,) option of each binary.
        cost: (N,) shifted to at least 0 per unit and scaled to at most ``COST_SCALE``.
        spend: (R, N) divided by the greatest common divisor where all are integers, else by the largest.
        limit: (R,) in the same units.
    """

    def __init__(self, problem: Problem, limit: FloatArray) -> None:
        self.units = problem.units
        self.unit, self.option = np.nonzero(problem.available)
        cost = problem.cost[self.unit, self.option]
        least = np.full(problem.units, np.inf)
        np.minimum.at(least, self.unit, cost)
        shifted = cost - least[self.unit]
        self._base = float(least.sum())
        self._scale = COST_SCALE / (float(shifted.max()) or 1.0)
        self.cost = shifted * self._scale
        spend = problem.spend[:, self.unit, self.option]  # (R, N)
        divisor = np.array([_divisor(row) for row in spend])
        self.spend = spend / divisor[:, None]
        self.limit = limit / divisor

    def spans(self) -> list[tuple[int, int]]:
        """Where the binaries of each unit stand.

        Returns:
            The first binary of each unit, and the one behind its last.
        """
        ends = np.cumsum(np.bincount(self.unit, minlength=self.units)).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def unscale(self, value: float) -> float:
        """Turn a scaled objective or bound into the problem's own cost.

        Args:
            value: As the solver reports it.

        Returns:
            The cost.
        """
        return value / self._scale + self._base

    def choice(self, taken: FloatArray) -> IntArray | None:
        """Read the plan off the binaries.

        Args:
            taken: (N,) values near 0 and 1.

        Returns:
            (U,) options, or None where some unit has no clear option.
        """
        chosen = np.flatnonzero(taken > 0.5)
        choice = np.full(self.units, -1, dtype=np.int64)
        choice[self.unit[chosen]] = self.option[chosen]
        return choice if chosen.size == self.units and (choice >= 0).all() else None


def _divisor(row: FloatArray) -> float:
    if np.array_equal(row, np.rint(row)) and np.abs(row).max(initial=0.0) < 2**62:
        return float(np.gcd.reduce(np.abs(row).astype(np.int64), initial=0)) or 1.0
    return float(np.abs(row).max()) / 1e3
