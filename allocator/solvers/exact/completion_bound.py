r"""How much reduced cost the units still to come must add to a state before it can keep every limit.

A state with overspend :math:`e = W - b` (negative where there is room) has a reduced cost at the optimal multipliers
λ. At any other multipliers :math:`\lambda + t v \circ \sigma \ge 0` it is bounded just as well:

.. math:: \rho(t) = \rho + t \, (v \circ \sigma) \cdot e + \sum_{u \text{ to come}}
          \min\Big(0, \min_f \big(\rho_{u,f} + t \, (v \circ \sigma) \cdot \Delta w_{u,f}\big)\Big)

Moving along v punishes states that overspend in that direction (or, against it, leave room unused), as far as the
units to come cannot make up for it cheaply. For each direction the sums over units are tabulated on a few t; the best
t for a state is found by bisection, because the table is concave in t.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from allocator.knapsack.problem import FloatArray, IntArray, weighted

_STEPS = 14
_MOST_PAIRED_LIMITS = 4


class Completion:
    """The table for one order of units.

    Args:
        reduced: (K, F) reduced costs of leaving the base option, units in the order in which they enter; +inf where
            an option cannot be in a better plan.
        spend_step: (R, K, F) what leaving the base option spends.
        multipliers: (R,) λ.
        excess: How far the incumbent lies above the bound.
    """

    def __init__(
        self, reduced: FloatArray, spend_step: FloatArray, multipliers: FloatArray, excess: float
    ) -> None:
        alive = np.isfinite(reduced)
        reach = np.where(alive, np.abs(spend_step), 0.0).max(axis=(1, 2), initial=0.0)  # (R,)
        scale = np.where(multipliers > 0, multipliers, excess / np.where(reach > 0, reach, 1.0))
        self._tables = []
        for direction in _directions(multipliers.size):
            if (direction[multipliers == 0] < 0).any():
                continue  # multipliers cannot become negative
            along = direction * scale  # (R,)
            moved = weighted(spend_step, along)  # (K, F)
            steps = _grid(moved[alive], excess, bounded=bool((direction < 0).any()))  # (J,)
            shifted = np.where(alive, reduced + steps[:, None, None] * moved, np.inf).min(axis=2)  # (J, K)
            sums = np.zeros((steps.size, reduced.shape[0] + 1))
            sums[:, :-1] = np.cumsum(np.minimum(shifted, 0.0)[:, ::-1], axis=1)[
                :, ::-1
            ]  # of the units from k on
            turns = -np.diff(sums, axis=0) / np.diff(steps)[:, None]  # (J - 1, K + 1)
            self._tables.append((along, steps, sums, turns))

    def alive(
        self, position: int, overspend: FloatArray, reduced: FloatArray, excess: float
    ) -> tuple[IntArray, FloatArray]:
        """Find the states that can still beat the incumbent.

        Args:
            position: Index of the next unit to enter.
            overspend: (S, R) spend of each state beyond the limits.
            reduced: (S,) reduced cost of each state.
            excess: How far the incumbent lies above the bound.

        Returns:
            Indices of the survivors, and a lower bound on the reduced cost that each ends with.
        """
        kept = np.arange(reduced.size)
        bound = reduced.copy()
        for along, steps, sums, turns in self._tables:
            moved = overspend[kept] @ along
            best = np.searchsorted(turns[:, position], moved)
            total = reduced[kept] + steps[best] * moved + sums[best, position]
            bound[kept] = np.maximum(bound[kept], total)
            kept = kept[total < excess]
        return kept, bound[kept]


def _directions(limits: int) -> FloatArray:
    if limits > _MOST_PAIRED_LIMITS:
        return np.vstack([np.eye(limits), -np.eye(limits)])
    signs: FloatArray = np.array(list(product((-1.0, 0.0, 1.0), repeat=limits)))
    moved = np.count_nonzero(signs, axis=1)
    paired: FloatArray = signs[(moved == 1) | (moved == 2)]
    return paired


def _grid(moved: FloatArray, excess: float, *, bounded: bool) -> FloatArray:
    typical = float(np.median(np.abs(moved))) if moved.size else 1.0
    furthest = 1.0 if bounded else 4.0  # at t = 1 a shrinking multiplier is gone
    first = min(0.02 * excess / typical if typical > 0 else furthest, furthest / 2)
    return np.append(0.0, np.geomspace(max(first, furthest * 1e-9), furthest, _STEPS))
