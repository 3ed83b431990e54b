r"""Bits as real numbers: where the loss falls as a power of two, the best bits are known in closed form.

.. math:: \min_R \sum_j c_j 2^{-\theta R_j} \quad\text{s.t.}\quad
          \frac{\sum_j w_j R_j}{\sum_j w_j} \le \bar R, \qquad l_j \le R_j \le h_j

At the optimum one more weighted bit buys the same everywhere, so that every unit stands at one level μ or at a bound:

.. math:: R_j = \operatorname{clip}\!\big(\mu + \tfrac1\theta \log_2 (c_j / w_j),\; l_j, h_j\big)

Equal weights and no bound that binds give the closed form of BAQ, :math:`R_j = \bar R + \frac1\theta \log_2 (c_j /
\mathrm{GM}(c))` with the geometric mean GM. Otherwise μ is found between the levels at which a unit leaves or meets a
bound; between two of them the average is linear in μ, so that no iteration is left to converge.

Source: BAQ (arXiv 2506.05664), the closed form; reverse water-filling: Cover and Thomas, Elements of Information
Theory, theorem 10.3.3.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from allocator.contract.errors import Fault, InvalidInputError
from allocator.knapsack.problem import BoolArray, FloatArray

#: Averages this far below the least possible one, relative to it, count as rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ContinuousBits:
    """The best real-valued bits.

    Attributes:
        bits: (U,) bits of each unit.
        loss: Their loss.
        level: μ, the bits of a unit whose coefficient equals its weight; +inf where every unit is at its upper bound.
        price: What one more weighted bit, anywhere, saves at the margin.
        at_low: (U,) units at their lower bound.
        at_high: (U,) units at their upper bound.
    """

    bits: FloatArray
    loss: float
    level: float
    price: float
    at_low: BoolArray
    at_high: BoolArray


def fill_water(
    coefficients: ArrayLike,
    average_bits: float,
    *,
    theta: float = 2.0,
    weights: ArrayLike = 1.0,
    low: ArrayLike = -np.inf,
    high: ArrayLike = np.inf,
) -> ContinuousBits:
    r"""Spread an average number of bits over units so that the sum of :math:`c_j 2^{-\theta R_j}` is least.

    Args:
        coefficients: (U,) c, the loss of each unit at zero bits, above 0.
        average_bits: The most that the weighted mean of the bits may be.
        theta: How fast the loss falls: 2 for the squared error of an ideal quantizer.
        weights: (U,) or one number; parameters of each unit, above 0.
        low: (U,) or one number; least bits.
        high: (U,) or one number; most bits.

    Returns:
        The bits; a mean below ``average_bits`` only where every unit is at its upper bound.

    Raises:
        InvalidInputError: A number is outside its range, or even the least bits exceed the average.

    Source:
        BAQ (arXiv 2506.05664); bounds by water-filling.

    Example:
        >>> fill_water([1.0, 4.0, 16.0, 64.0], 3.0).bits.tolist()
        [1.5, 2.5, 3.5, 4.5]
        >>> fill_water([1.0, 4.0, 16.0, 64.0], 3.0, high=4.0).bits.round(3).tolist()
        [1.667, 2.667, 3.667, 4.0]
    """
    scale = np.array(coefficients, dtype=float)
    weight, least, most = (
        np.broadcast_to(np.asarray(value, dtype=float), scale.shape) for value in (weights, low, high)
    )
    _require_sound(scale, weight, least, most, theta, average_bits)
    above = (np.log2(scale) - np.log2(weight)) / theta  # (U,) bits above the level
    leaves, meets = least - above, most - above  # (U,) levels between which a unit is free
    target = average_bits * float(weight.sum())
    points = np.unique(np.concatenate([leaves, meets]))
    points = points[np.isfinite(points)]

    def spent(level: float) -> float:
        return float(weight @ np.clip(level + above, least, most))

    index = bisect_right(range(points.size), target, key=lambda at: spent(points[at]))
    before = points[index - 1] if index else -np.inf
    after = points[index] if index < points.size else np.inf
    free = (leaves < after) & (meets > before)
    if free.any():
        fixed = np.where(meets <= before, most, least)[~free]
        rest = target - float(weight[~free] @ fixed) - float(weight[free] @ above[free])
        level = min(max(rest / float(weight[free].sum()), before), after)
    elif index:
        level = before if index < points.size else np.inf
    else:
        _require_reachable(target, weight, least)
        level = after
    bits = np.clip(level + above, least, most)
    return ContinuousBits(
        bits=bits,
        loss=float(scale @ np.exp2(-theta * bits)),
        level=float(level),
        price=float(theta * np.log(2) * np.exp2(-theta * level)),
        at_low=bits <= least,
        at_high=bits >= most,
    )


def bits_at_price(
    coefficients: FloatArray, price: FloatArray, theta: float, low: FloatArray, high: FloatArray
) -> FloatArray:
    r"""The bits of each unit where another bit has a price.

    .. math:: R_j = \operatorname{clip}\!\Big(\frac1\theta \log_2 \frac{c_j \theta \ln 2}{p_j},\; l_j, h_j\Big)

    Args:
        coefficients: (U,) c, above 0.
        price: (U,) cost of one more bit; units whose bits cost nothing (or less) get all they can have.
        theta: How fast the loss falls.
        low: (U,) least bits.
        high: (U,) most bits.

    Returns:
        (U,) minimisers of :math:`c_j 2^{-\theta R_j} + p_j R_j` between the bounds.

    Example:
        >>> price = np.array([2 * np.log(2) / 16, 0.0])
        >>> bits_at_price(np.ones(2), price, 2.0, np.zeros(2), np.full(2, 8.0)).tolist()
        [2.0, 8.0]
    """
    charged = price > 0
    ratio = np.log2(coefficients) + np.log2(theta * np.log(2)) - np.log2(np.where(charged, price, 1.0))
    bits: FloatArray = np.where(charged, np.clip(ratio / theta, low, high), high)
    return bits


def _require_sound(
    scale: FloatArray, weight: FloatArray, low: FloatArray, high: FloatArray, theta: float, average: float
) -> None:
    faults = []
    if scale.ndim != 1 or not scale.size or not (np.isfinite(scale) & (scale > 0)).all():
        faults.append(Fault("/coefficients", "expected one finite number above 0 for each unit"))
    if not (np.isfinite(weight) & (weight > 0)).all():
        faults.append(Fault("/weights", "expected finite numbers above 0"))
    if not (low <= high).all() or np.isposinf(low).any() or np.isneginf(high).any():
        faults.append(Fault("/low", "expected least bits that are at most the most bits, for every unit"))
    if not (np.isfinite(theta) and theta > 0):
        faults.append(Fault("/theta", f"expected a finite number above 0, got {theta!r}"))
    if not np.isfinite(average):
        faults.append(Fault("/average_bits", f"expected a finite number, got {average!r}"))
    if faults:
        raise InvalidInputError(*faults)


def _require_reachable(target: float, weight: FloatArray, low: FloatArray) -> None:
    least = float(weight @ low)
    if target < least - _ROUNDING * float(weight @ np.abs(low)):
        total = float(weight.sum())
        detail = (
            f"expected at least {least / total:.9g}, the mean of the least bits, got {target / total:.9g}"
        )
        raise InvalidInputError(Fault("/average_bits", detail))
