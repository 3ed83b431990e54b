r"""The law :math:`c_u 2^{-\theta R}` fitted to a table, with what the table departs from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allocator.knapsack.problem import BoolArray, FloatArray, Problem

#: A table follows the law where no cost departs from it by more, relative to the cost.
_EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class RateLaw:
    r"""Cost and spend of each unit as functions of its bits R.

    .. math:: \text{cost}_u(R) \approx c_u 2^{-\theta R}, \qquad \text{spend}_{r,u}(R) \approx s_{r,u} + w_{r,u} R

    Attributes:
        theta: θ, common to all units; NaN where the costs do not fall with the bits.
        coefficient: (U,) c; NaN for units that no law describes.
        base: (R, U) spend at zero bits.
        slope: (R, U) spend of one more bit.
        low: (U,) least bits among the options.
        high: (U,) most bits among the options.
        bits: (U, O) bits of each option; NaN where its layers differ or it is not available.
        exact: Whether every cost follows the law and every spend is linear in the bits, to one part in 10⁹.
        cost_below: By how much the cost of any plan may fall short of the law.
        spend_below: (R,) By how much the spend of any plan may fall short of the lines.
    """

    theta: float
    coefficient: FloatArray
    base: FloatArray
    slope: FloatArray
    low: FloatArray
    high: FloatArray
    bits: FloatArray
    exact: bool
    cost_below: float
    spend_below: FloatArray

    @property
    def described(self) -> BoolArray:
        """(U,) units that the law describes."""
        return np.isfinite(self.coefficient)


def fit_law(problem: Problem) -> RateLaw:
    r"""Fit the law by least squares: on the logarithms of the costs, on the spends as they are.

    .. math:: \log_2 \text{cost}_{u,o} \approx \log_2 c_u - \theta b_{u,o}

    Costs of zero and below have no logarithm: they are left out of the fit, and the table does not count as exact. A
    unit without any positive cost, or without an option that gives all its layers one format, has no law.

    Returns:
        The law, and how far the table departs from it.

    Example:
        >>> bits = np.array([2.0, 4.0, 8.0])
        >>> cost = np.array([[3.0], [5.0]]) * 2 ** (-2 * bits)
        >>> yes = np.ones((2, 3), dtype=bool)
        >>> law = fit_law(Problem(cost, np.stack([bits * yes]), np.array([8.0]), yes, np.arange(3) * yes, bits))
        >>> round(law.theta, 9), law.coefficient.round(9).tolist(), law.slope.round(9).tolist(), law.exact
        (2.0, [3.0, 5.0], [[1.0, 1.0]], True)
    """
    known = problem.available & (problem.label >= 0)
    bits = np.where(known, problem.bits[problem.label], np.nan)  # (U, O)
    theta, coefficient = _fit_costs(problem, known, bits)
    base, slope = _fit_spends(problem, known, bits)
    described = np.isfinite(coefficient)
    low = np.where(known, bits, np.inf).min(axis=1)
    high = np.where(known, bits, -np.inf).max(axis=1)
    exact, cost_below = False, np.inf
    spend_below = np.full(problem.limits, np.inf)
    if described.all() and np.array_equal(known, problem.available):
        law = np.exp2(np.log2(coefficient)[:, None] - theta * np.where(known, bits, 0.0))  # (U, O)
        line = base[:, :, None] + slope[:, :, None] * np.where(known, bits, 0.0)  # (R, U, O)
        over = np.where(known, law - problem.cost, 0.0)
        above = np.where(known, line - problem.spend, 0.0)
        largest = np.abs(np.where(known, problem.spend, 0.0)).max(axis=2, keepdims=True)
        exact = bool((np.abs(over) <= _EXACT * np.abs(problem.cost))[known].all())
        exact &= bool((np.abs(above) <= _EXACT * largest).all())
        cost_below = float(over.max(axis=1).clip(min=0).sum())
        spend_below = above.max(axis=2).clip(min=0).sum(axis=1)
    return RateLaw(theta, coefficient, base, slope, low, high, bits, exact, cost_below, spend_below)


def _fit_costs(problem: Problem, known: BoolArray, bits: FloatArray) -> tuple[float, FloatArray]:
    usable = known & (problem.cost > 0)
    logs = np.log2(np.where(usable, problem.cost, 1.0))
    offset, mean = _centred(bits, usable)
    _, mean_log = _centred(logs, usable)
    variance = float((offset**2).sum())
    theta = -float((offset * logs).sum()) / variance if variance > 0 else np.nan
    if not theta > 0:
        return np.nan, np.full(problem.units, np.nan)
    with np.errstate(over="ignore"):
        coefficient = np.exp2(mean_log + theta * mean)
    sound = usable.any(axis=1) & (coefficient > 0) & np.isfinite(coefficient)
    return theta, np.where(sound, coefficient, np.nan)


def _fit_spends(problem: Problem, known: BoolArray, bits: FloatArray) -> tuple[FloatArray, FloatArray]:
    offset, mean = _centred(bits, known)
    variance = (offset**2).sum(axis=1)  # (U,)
    spend = np.where(known, problem.spend, 0.0)
    slope = (offset * spend).sum(axis=2) / np.where(variance > 0, variance, 1.0)  # (R, U)
    count = np.maximum(known.sum(axis=1), 1)
    return spend.sum(axis=2) / count - slope * mean, slope


def _centred(values: FloatArray, kept: BoolArray) -> tuple[FloatArray, FloatArray]:
    values = np.where(kept, values, 0.0)
    mean = values.sum(axis=1) / np.maximum(kept.sum(axis=1), 1)  # (U,)
    return np.where(kept, values - mean[:, None], 0.0), mean
