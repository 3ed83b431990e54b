r"""The continuous relaxation: bits as real numbers under the law :math:`c_u 2^{-\theta R}`, rounded to a plan.

Where the table follows the law the value of the real-valued bits bounds every plan from below. The Lagrangian dual of
the table is never lower (a hull of points on a convex curve lies above the curve), so that the dual is the bound that
comes with the plan, whether or not the law holds; the continuous value is what
:func:`allocator.tradeoff.continuous_plan.continuous_plan` reports beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from allocator.bounds.dual import Dual, maximise_dual
from allocator.bounds.rate_law import RateLaw, fit_law
from allocator.bounds.water_filling import bits_at_price, fill_water
from allocator.contract.status import Status
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, IntArray, Problem, lagrangian_cost
from allocator.solvers.baselines.local_search import improve, repair
from allocator.solvers.outcome import Effort, Outcome, found, infeasible

#: Rounding of sums of doubles, relative to their terms.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Real-valued bits.

    Attributes:
        bits: (U,) bits of each unit; NaN for units that no law describes.
        price: (R,) what one more unit of each limit saves.
        theta: θ of the law; NaN where there is none.
        value: Cost of the bits by the law; units without a law count with their option in the Lagrangian optimum.
        lower_bound: No plan costs less; -inf where the table does not follow the law.
    """

    bits: FloatArray
    price: FloatArray
    theta: float
    value: float
    lower_bound: float


def solve(problem: Problem, effort: Effort) -> Outcome:
    """Round the real-valued bits to options, then repair and improve the plan one unit at a time.

    Args:
        effort: When time is up, the plan is what it is by then.

    Returns:
        A plan with the Lagrangian bound, so that its distance to the optimum is known.
    """
    deadline = Deadline(effort.time_limit_s)
    dual = maximise_dual(problem, deadline=deadline)
    prices = dual.multipliers if dual.complete else None
    work = {"dual_evaluations": dual.evaluations}
    if np.isposinf(dual.bound):
        return infeasible(work)
    law = fit_law(problem)
    choice = _rounded(problem, dual, law, relax(problem, dual, law).bits, deadline)
    if not problem.feasible(choice):
        return Outcome(Status.NO_SOLUTION, None, dual.bound, work, prices=prices)
    return replace(found(problem, improve(problem, choice, deadline), dual.bound, work), prices=prices)


def relax(problem: Problem, dual: Dual, law: RateLaw) -> Relaxation:
    """Find the best real-valued bits under a law.

    One limit is filled like water. With several, the multipliers of the table's own dual price the bits, and the
    Lagrangian of the law at these prices is the lower bound.

    Returns:
        The bits; all NaN where no unit has a law.
    """
    described, units = law.described, np.arange(problem.units)
    # What counts for the units that no law describes.
    cost, spend = problem.cost[units, dual.choice], problem.spend[:, units, dual.choice]
    bits = np.full(problem.units, np.nan)
    price = dual.multipliers
    if described.any():
        bits, price = _filled(problem, law, spend) if problem.limits == 1 else _priced(law, price)
        cost = np.where(described, np.exp2(np.log2(law.coefficient) - law.theta * bits), cost)
        spend = np.where(described, law.base + law.slope * bits, spend)
    value, bound = float(cost.sum()), -np.inf
    if law.exact:
        terms = value + float(price @ (np.abs(spend).sum(axis=1) + np.abs(problem.limit)))
        slack = problem.limit + law.spend_below - spend.sum(axis=1)  # (R,)
        bound = value - float(price @ slack) - law.cost_below - _ROUNDING * terms
    return Relaxation(bits, price, law.theta, value, bound)


def _priced(law: RateLaw, price: FloatArray) -> tuple[FloatArray, FloatArray]:
    per_bit = np.where(law.described, price @ law.slope, 0.0)
    bits = bits_at_price(law.coefficient, per_bit, law.theta, law.low, law.high)
    return np.where(law.described, bits, np.nan), price


def _filled(problem: Problem, law: RateLaw, spend: FloatArray) -> tuple[FloatArray, FloatArray]:
    base, slope = law.base[0], law.slope[0]
    charged = law.described & (slope > 0)
    bits = np.where(law.described, law.high, np.nan)  # where bits are free, all of them
    if not charged.any():
        return bits, np.zeros(1)
    others = np.where(law.described, base + slope * bits, spend[0])[~charged].sum()
    weight, low = slope[charged], law.low[charged]
    room = float(problem.limit[0] - others - base[charged].sum())
    room = max(room, float(weight @ low))  # lines through spends that are not linear may leave too little
    water = fill_water(
        law.coefficient[charged],
        room / float(weight.sum()),
        theta=law.theta,
        weights=weight,
        low=low,
        high=law.high[charged],
    )
    bits[charged] = water.bits
    return bits, np.array([water.price])


def _rounded(problem: Problem, dual: Dual, law: RateLaw, bits: FloatArray, deadline: Deadline) -> IntArray:
    # Each unit stands between two options. Those whose step up saves most for what it spends take it, as many as fit;
    # what one threshold cannot settle is repaired here and improved afterwards.
    lagrangian = lagrangian_cost(problem, dual.multipliers)  # (U, O)
    reduced = lagrangian - lagrangian.min(axis=1, keepdims=True)
    below, above = _neighbours(law.bits, dual, bits, reduced)
    worth = _worth(problem, dual, below, above)
    thresholds = np.unique(np.append(worth, 0.0))
    first, last = 0, thresholds.size - 1
    while first < last:
        middle = (first + last) // 2
        if problem.feasible(np.where(worth > thresholds[middle], above, below)):
            last = middle
        else:
            first = middle + 1
    return repair(problem, np.where(worth > thresholds[first], above, below), reduced, deadline)


def _neighbours(
    offered: FloatArray, dual: Dual, bits: FloatArray, reduced: FloatArray
) -> tuple[IntArray, IntArray]:
    has_law = np.isfinite(bits)
    under = np.where(offered <= bits[:, None], offered, -np.inf).max(axis=1)  # (U,)
    over = np.where(offered >= bits[:, None], offered, np.inf).min(axis=1)

    def option(wanted: FloatArray) -> IntArray:
        # Several options may have the same bits (group sizes): the one with the least reduced cost.
        nearest = np.where(offered == wanted[:, None], reduced, np.inf).argmin(axis=1)
        return np.where(has_law, nearest, dual.choice)

    return option(under), option(over)


def _worth(problem: Problem, dual: Dual, below: IntArray, above: IntArray) -> FloatArray:
    units = np.arange(problem.units)
    saved = problem.cost[units, below] - problem.cost[units, above]
    charge = dual.multipliers @ (problem.spend[:, units, above] - problem.spend[:, units, below])
    worth = np.where(saved > 0, np.inf, 0.0)
    return np.divide(saved, charge, out=worth, where=(saved > 0) & (charge > 0))
