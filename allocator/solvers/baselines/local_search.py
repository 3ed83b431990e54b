"""From a plan to a feasible plan, and from a feasible plan to a better one."""

from __future__ import annotations

import numpy as np

from allocator.knapsack.deadline import NEVER, Deadline
from allocator.knapsack.problem import FloatArray, IntArray, Problem, masked_cost, weighted

#: How often prices are raised fourfold, and then halved between two that are too low and high enough.
_RAISED, _HALVED = 12, 12
#: Numbers to look at while single moves are sought.
_MOST_LOOKED_AT = 1_000_000_000


def dearer_prices(problem: Problem, multipliers: FloatArray, choice: IntArray) -> IntArray:
    """Raise the prices of the limits together until a minimiser of the Lagrangian keeps them: many moves at once.

    Args:
        multipliers: (R,) prices to begin with.
        choice: (U,) the plan where no prices keep the limits.

    Returns:
        (U,) a plan, which may still break limits.
    """
    cost = masked_cost(problem)
    shown = np.where(problem.available, problem.spend, 0.0)
    span = np.ptp(shown, axis=(1, 2))
    costs = np.where(problem.available, problem.cost, 0.0)
    # A limit that has no price yet is broken where the others are kept dearly.
    least = 1e-3 * float(np.ptp(costs)) / np.where(span > 0, span, 1.0)
    charge = weighted(shown, np.maximum(multipliers, least))

    def plan(factor: float) -> IntArray:
        minimiser: IntArray = (cost + factor * charge).argmin(axis=1)
        return minimiser

    factors = [1.0 * 4.0**power for power in range(_RAISED)]
    high = next((factor for factor in factors if problem.feasible(plan(factor))), None)
    if high is None:
        return choice
    low = high / 4
    for _ in range(_HALVED):
        middle = (low + high) / 2
        low, high = (low, middle) if problem.feasible(plan(middle)) else (middle, high)
    return plan(high)


def repair(problem: Problem, choice: IntArray, reduced: FloatArray, deadline: Deadline = NEVER) -> IntArray:
    """Move units until every limit holds, each time by the move with the least reduced cost per excess removed.

    Args:
        choice: (U,) a plan that may break limits.
        reduced: (U, F) reduced costs, +inf where not available.

    Returns:
        (U,) a plan; it still breaks a limit where no single move helps, or time is up.
    """
    choice = choice.copy()
    units = np.arange(problem.units)
    size = np.maximum(np.abs(problem.limit), 1e-300)[:, None, None]
    before = np.inf
    while not problem.feasible(choice) and not deadline.passed():
        over = (problem.used(choice) - problem.limit)[:, None, None] / size  # (R, 1, 1)
        excess = float(np.maximum(over, 0).sum())
        if not excess < before:  # rounding gave back what the last move removed
            break
        before = excess
        step = (problem.spend - problem.spend[:, units, choice][:, :, None]) / size  # (R, U, F)
        removed = (np.maximum(over, 0) - np.maximum(over + step, 0)).sum(axis=0)  # (U, F)
        removed[~problem.available] = 0.0
        price = reduced - reduced[units, choice][:, None]
        score = np.where(removed > 0, price / np.where(removed > 0, removed, 1.0), np.inf)
        unit, option = np.unravel_index(int(score.argmin()), score.shape)
        if not np.isfinite(score[unit, option]):
            break
        choice[unit] = option
    return choice


def improve(problem: Problem, choice: IntArray, deadline: Deadline = NEVER) -> IntArray:
    """Take the single move that saves most while every limit holds, until none is left, or many were taken.

    Args:
        choice: (U,) a feasible plan.

    Returns:
        (U,) a feasible plan that costs no more.
    """
    choice = choice.copy()
    units = np.arange(problem.units)
    for _ in range(max(_MOST_LOOKED_AT // max(problem.spend.size, 1), 1)):
        if deadline.passed():
            break
        used = problem.used(choice)[:, None, None]
        step = problem.spend - problem.spend[:, units, choice][:, :, None]  # (R, U, F)
        fits = problem.available & (used + step <= problem.limit[:, None, None]).all(axis=0)
        saved = np.where(fits, problem.cost[units, choice][:, None] - problem.cost, 0.0)
        unit, option = np.unravel_index(int(saved.argmax()), saved.shape)
        if not saved[unit, option] > 0:
            break
        before = choice[unit]
        choice[unit] = option
        if not problem.feasible(choice):  # rounding of the sums; the step was not worth it
            choice[unit] = before
            break
    return choice
