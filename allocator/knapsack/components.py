"""Limits and units that have nothing to do with each other: parts of a problem that are solved apart.

A limit touches a unit whose options spend differently of it. Limits that touch a common unit belong together, as do the
units that they touch. What is left (pools over disjoint layers, counts per block) shares nothing but the sum of the
costs, so that the best plan of the whole is made of the best plans of the parts, and its bound of their bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from allocator.knapsack.problem import BoolArray, FloatArray, IntArray, Problem

#: Rounding of a sum of doubles that are added in another order, relative to its terms.
_ROUNDING = 1e-14


@dataclass(frozen=True, eq=False)
class Component:
    """A part of a problem.

    Attributes:
        problem: The part as a problem of its own; what all other units spend whatever they take has left its limits.
        units: (U',) indices of its units, rising.
        limits: (R',) indices of its limits, rising; none for the units that no limit touches.
    """

    problem: Problem
    units: IntArray
    limits: IntArray


def connected_components(problem: Problem) -> list[Component]:
    """Take a problem apart.

    Limits that touch no unit and hold anyway are left out. Limits that are not integers are widened by the rounding of
    their sums, so that every plan of the whole is a plan of the parts.

    Returns:
        The parts in the order of their first limits, units that no limit touches last. One part that is the problem
        itself where it does not fall apart.

    Example:
        >>> spend = np.array([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 2.0]]])
        >>> problem = Problem(
        ...     cost=np.array([[3.0, 0.0], [2.0, 0.0]]),
        ...     spend=spend,
        ...     limit=np.array([1.0, 2.0]),
        ...     available=np.ones((2, 2), dtype=bool),
        ...     label=np.array([[0, 1], [0, 1]]),
        ...     bits=np.array([4.0, 8.0]),
        ... )
        >>> [(part.units.tolist(), part.limits.tolist()) for part in connected_components(problem)]
        [([0], [0]), ([1], [1])]
    """
    if problem.limits < 2:
        return [_whole(problem)]
    first = problem.available.argmax(axis=1)
    fixed: FloatArray = problem.spend[:, np.arange(problem.units), first]  # (R, U)
    touched: BoolArray = ((problem.spend != fixed[:, :, None]) & problem.available).any(axis=2)  # (R, U)
    groups = _linked(touched)
    idle = ~touched.any(axis=1)
    broken = np.flatnonzero(idle & (fixed.sum(axis=1) > problem.limit))
    if len(groups) == 1 and not idle.any() and touched.any(axis=0).all():
        return [_whole(problem)]
    parts = [(np.flatnonzero(touched[group].any(axis=0)), group) for group in groups]
    alone = np.flatnonzero(~touched.any(axis=0))
    if alone.size:
        parts.append((alone, np.empty(0, dtype=np.int64)))
    if broken.size:  # no plan keeps these, and one part has to say so
        parts[0] = (parts[0][0], np.sort(np.append(parts[0][1], broken)))
    return [_part(problem, fixed, units, limits) for units, limits in parts]


def assembled(problem: Problem, parts: list[tuple[Component, IntArray]]) -> IntArray:
    """Put plans of the parts together.

    Args:
        problem: The whole problem.
        parts: Every part with its plan.

    Returns:
        (U,) the plan of the whole.
    """
    whole = np.zeros(problem.units, dtype=np.int64)
    for part, choice in parts:
        whole[part.units] = choice
    return whole


def _whole(problem: Problem) -> Component:
    return Component(problem, np.arange(problem.units), np.arange(problem.limits))


def _linked(touched: BoolArray) -> list[IntArray]:
    counts = touched.astype(float)
    together = counts @ counts.T > 0  # (R, R)
    waiting = touched.any(axis=1)
    groups = []
    while waiting.any():
        group = np.zeros_like(waiting)
        group[waiting.argmax()] = True
        while True:
            grown = together[group].any(axis=0)
            if (grown == group).all():
                break
            group = grown
        waiting &= ~group
        groups.append(np.flatnonzero(group))
    return groups


def _part(problem: Problem, fixed: FloatArray, units: IntArray, limits: IntArray) -> Component:
    others = np.ones(problem.units, dtype=bool)
    others[units] = False
    spent = fixed[np.ix_(limits, np.flatnonzero(others))]  # (R', U - U')
    spend = problem.spend[np.ix_(limits, units)]
    limit = problem.limit[limits]
    available = problem.available[units]
    terms = np.abs(spent).sum(axis=1) + np.where(available, np.abs(spend), 0.0).max(axis=2).sum(axis=1)
    whole = _whole_rows(spend, available) & (spent == np.rint(spent)).all(axis=1)
    part = Problem(
        cost=problem.cost[units],
        spend=spend,
        limit=limit - spent.sum(axis=1) + np.where(whole, 0.0, _ROUNDING * (terms + np.abs(limit))),
        available=available,
        label=problem.label[units],
        bits=problem.bits,
        demand=None if problem.demand is None else problem.demand[limits],
    )
    return Component(part, units, limits)


def _whole_rows(spend: FloatArray, available: BoolArray) -> BoolArray:
    whole: BoolArray = ((spend == np.rint(spend)) | ~available).all(axis=(1, 2))
    return whole
