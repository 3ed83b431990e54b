"""From a plan to a feasible plan, and from a feasible plan to a better one, one unit at a time."""

from __future__ import annotations

import numpy as np

from allocator.knapsack.deadline import NEVER, Deadline
from allocator.knapsack.problem import FloatArray, IntArray, Problem


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
    """Take the single move that saves most while every limit holds, until none is left.

    Args:
        choice: (U,) a feasible plan.

    Returns:
        (U,) a feasible plan that costs no more.
    """
    choice = choice.copy()
    units = np.arange(problem.units)
    while not deadline.passed():
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
