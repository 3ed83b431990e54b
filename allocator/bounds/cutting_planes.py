"""The small linear program behind cutting planes: the highest point under all cuts seen so far.

Its vertex is kept between cuts, so that a new cut takes a pivot or two of the dual simplex method on matrices of
(limits + 1) rows, where a general LP solver would spend a thousand times as long on calling conventions.
"""

from __future__ import annotations

import numpy as np

from allocator.knapsack.problem import BoolArray, FloatArray

_FEASIBLE = 1e-11
_MAX_PIVOTS = 100
#: Rounding of a row at a vertex, relative to its terms: far away they are large and cancel.
_ROUNDING = 1e-14
#: Ratios that count as equal; of such the row with the largest pivot leaves, which keeps the basis regular.
_TIED = 1e-12


class Master:
    r"""Maximise θ subject to :math:`\theta \le h_k + g_k \cdot \lambda` for every cut k, and 0 ≤ λ ≤ box.

    Args:
        height: Height of the first cut at λ = 0.
        slope: (R,) its slope.
        box: Largest multiplier to consider.
        signed: (R,) multipliers that may be negative, -box ≤ λ; none by default.

    Attributes:
        stuck: Whether the vertex could not be found to the rounding of doubles; what it was before still stands.
    """

    def __init__(self, height: float, slope: FloatArray, box: float, signed: BoolArray | None = None) -> None:
        size = slope.size
        self.stuck = False
        self._signed = np.zeros(size, dtype=bool) if signed is None else signed
        self._vertex = np.zeros(size + 1)
        upper, lower = np.eye(size, size + 1, 1), -np.eye(size, size + 1, 1)
        self._rows = np.vstack([upper, lower, np.append(1.0, -slope)])  # (2R + K, 1 + R), over (θ, λ)
        self._limits = np.concatenate([np.full(size, box), np.where(self._signed, box, 0.0), [height]])
        self._basis = np.append(np.where(slope > 0, np.arange(size), size + np.arange(size)), 2 * size)
        self._size = size
        self._solve()

    def cut(self, height: float, slope: FloatArray) -> None:
        """Add a cut.

        Args:
            height: Height at λ = 0.
            slope: (R,).
        """
        self._rows = np.vstack([self._rows, np.append(1.0, -slope)])
        self._limits = np.append(self._limits, height)
        self._solve()

    def widen(self, box: float) -> None:
        """Look further away.

        Args:
            box: Largest multiplier to consider.
        """
        self._limits[: self._size] = box
        self._limits[self._size : 2 * self._size] = np.where(self._signed, box, 0.0)
        self._solve()

    @property
    def at_edge(self) -> bool:
        """Whether the highest point lies on the edge of the box."""
        lower = self._basis[(self._basis >= self._size) & (self._basis < 2 * self._size)] - self._size
        return bool((self._basis < self._size).any() or self._signed[lower].any())

    @property
    def height(self) -> float:
        """θ at the highest point."""
        return float(self._vertex[0])

    @property
    def multipliers(self) -> FloatArray:
        """(R,) λ at the highest point."""
        inside: FloatArray = np.where(self._signed, self._vertex[1:], np.maximum(self._vertex[1:], 0.0))
        return inside

    def _solve(self) -> None:
        try:
            self._pivot()
        except np.linalg.LinAlgError:  # parallel cuts in one basis: any multipliers so far give a bound
            self.stuck = True

    def _pivot(self) -> None:
        for _ in range(_MAX_PIVOTS):
            active = self._rows[self._basis]
            self._vertex = np.linalg.solve(active, self._limits[self._basis])
            excess = self._rows @ self._vertex - self._limits
            entering = int(excess.argmax())
            terms = np.abs(self._rows[entering]) @ np.abs(self._vertex)
            if excess[entering] <= _FEASIBLE * (1 + abs(self._limits[entering])) + _ROUNDING * terms:
                return
            goal = np.zeros(self._size + 1)
            goal[0] = 1.0
            prices, weights = np.linalg.solve(active.T, np.column_stack([goal, self._rows[entering]])).T
            ratios = np.where(
                weights > 1e-12, np.maximum(prices, 0) / np.where(weights > 1e-12, weights, 1), np.inf
            )
            lowest = ratios.min()
            if not np.isfinite(lowest):
                return
            leaving = int(np.where(ratios <= lowest + _TIED, weights, -np.inf).argmax())
            self._basis[leaving] = entering
