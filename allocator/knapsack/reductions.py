"""Smaller problems with the same optimum: each returns the smaller problem and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from allocator.knapsack.problem import BoolArray, FloatArray, IntArray, Problem, least, masked_spend


@dataclass(frozen=True, eq=False)
class Reduction:
    """A smaller problem and the way back.

    Attributes:
        problem: The smaller problem.
        undo: Turns its choice into a choice of the original problem.
        fixed_cost: What the original's objective adds to the smaller one's.
    """

    problem: Problem
    undo: Callable[[IntArray], IntArray]
    fixed_cost: float


def fix_single_options(problem: Problem, available: BoolArray) -> Reduction:
    """Take units with one option left out of the problem; their spends leave the limits.

    Args:
        available: (U, F) the options to keep, at least one per unit.

    Returns:
        The problem over the free units; the first unit stays where none is free.
    """
    free = available.sum(axis=1) > 1
    if not free.any():
        free[0] = True
    fixed = available.argmax(axis=1)
    held = ~free
    rows, columns = np.flatnonzero(held), fixed[held]
    spent = problem.spend[:, rows, columns].sum(axis=1)
    smaller = Problem(
        cost=problem.cost[free],
        spend=problem.spend[:, free],
        limit=problem.limit - spent,
        available=available[free],
        label=problem.label[free],
        bits=problem.bits,
    )

    def undo(choice: IntArray) -> IntArray:
        whole: IntArray = fixed.copy()
        whole[free] = choice
        return whole

    return Reduction(smaller, undo, float(problem.cost[rows, columns].sum()))


@dataclass(frozen=True, eq=False)
class Spread:
    """How far apart options spend, limit by limit: enough to tell that all of them fit.

    Attributes:
        least: (R,) what the lightest options of all units spend.
        terms: (R,) the same, of absolute values.
        step: (R,) the most that an option spends above the lightest of its unit.
    """

    least: FloatArray
    terms: FloatArray
    step: FloatArray

    @classmethod
    def of(cls, problem: Problem) -> Spread:
        """Return the spread of all options."""
        lightest = least(masked_spend(problem))  # (R, U)
        more = np.where(problem.available, problem.spend - lightest[:, :, None], 0.0)  # (R, U, F)
        return cls(lightest.sum(axis=1), np.abs(lightest).sum(axis=1), more.max(axis=(1, 2), initial=0.0))

    def fits(self, limit: FloatArray) -> bool:
        """Tell whether :func:`fitting_options` would leave nothing out.

        Args:
            limit: (R,) limits.

        Returns:
            True where every option fits beside the lightest of all others.
        """
        return bool((self.step <= _room(limit, self.least, self.terms)).all())


def fitting_options(problem: Problem) -> BoolArray:
    """Leave out options that break a limit even where all other units spend their least.

    A huge gain that never fits would otherwise set the scale of all prices and drown the gains that do.

    Returns:
        (U, F) the options that can be in a plan; a unit without one proves that there is no plan.
    """
    if problem.limits == 0:
        return problem.available
    spend = masked_spend(problem)
    lightest = least(spend)  # (R, U)
    more = spend - lightest[:, :, None]  # (R, U, F)
    room = _room(problem.limit, lightest.sum(axis=1), np.abs(lightest).sum(axis=1))
    within: BoolArray = np.all(more <= room[:, None, None], axis=0)
    kept: BoolArray = problem.available & within
    return kept


def _room(limit: FloatArray, spent: FloatArray, terms: FloatArray) -> FloatArray:
    return limit - spent + 1e-12 * (terms + np.abs(limit))
