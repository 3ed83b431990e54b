"""One library of small problems that every solver runs, and the slow, obvious solver they are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from allocator.knapsack.problem import Problem


def make(cost: ArrayLike, spend: ArrayLike, limit: ArrayLike) -> Problem:
    """A problem from nested lists; NaN costs mark options that are not available."""
    costs = np.array(cost, dtype=float)
    available = ~np.isnan(costs)
    spends = np.array(spend, dtype=float).reshape(-1, *costs.shape)
    return Problem(
        cost=np.where(available, costs, 0.0),
        spend=np.where(available, spends, 0.0),
        limit=np.atleast_1d(np.array(limit, dtype=float)),
        available=available,
        label=np.broadcast_to(np.arange(costs.shape[1]), costs.shape),
        bits=2.0 ** np.arange(costs.shape[1]),
    )


@dataclass(frozen=True)
class Best:
    objective: float
    used: tuple[float, ...]
    choice: tuple[int, ...]


def brute_force(problem: Problem) -> Best | None:
    """Try every plan; of equally cheap ones the least spend (of a demand too), then the first in order, wins."""
    options = [np.flatnonzero(row).tolist() for row in problem.available]
    plans = [np.array(plan) for plan in product(*options)]
    ranked = [
        Best(problem.objective(plan), tuple(problem.used(plan).tolist()), tuple(plan.tolist()))
        for plan in plans
        if problem.feasible(plan)
    ]
    if not ranked:
        return None
    cheapest = min(ranked, key=lambda best: best.objective)
    terms = problem.cost[np.arange(problem.units), list(cheapest.choice)]
    kept = [best for best in ranked if best.objective <= cheapest.objective + 1e-12 * np.abs(terms).sum()]
    for row in range(problem.limits):
        sign = -1.0 if problem.demand is not None and problem.demand[row] else 1.0
        least = min(sign * best.used[row] for best in kept)
        kept = [best for best in kept if sign * best.used[row] <= least + 1e-9]
    return min(kept, key=lambda best: best.choice)


NAN = np.nan
LIBRARY: dict[str, Problem] = {
    "textbook": make([[9, 4, 1], [8, 5, 0], [7, 3, 2]], [[[1, 2, 4], [1, 2, 4], [1, 2, 4]]], 8),
    "greedy is not optimal": make([[10, 0], [9, 0], [9, 0]], [[[0, 3], [0, 2], [0, 2]]], 4),
    "infeasible": make([[1, 0], [1, 0]], [[[2, 3], [2, 3]]], 3),
    "exactly at the limit": make([[1, 0], [1, 0]], [[[2, 3], [2, 3]]], 4),
    "everything fits": make([[1, 0], [1, 0]], [[[2, 3], [2, 3]]], 100),
    "no limit at all": make([[3, 1], [0, 2]], np.zeros((0, 2, 2)), []),
    "one option each": make([[5], [6]], [[[1], [2]]], 3),
    "one unit": make([[5, 3, 1]], [[[1, 2, 3]]], 2),
    "tied costs, the thriftier wins": make([[1, 1], [1, 1]], [[[3, 2], [2, 3]]], 6),
    "tied plans, the first layer keeps the first option": make([[0, 1], [0, 1]], [[[2, 1], [2, 1]]], 3),
    "identical units": make([[4, 2, 1]] * 5, [[[1, 2, 3]] * 5], 9),
    "negative costs": make([[-1, -5, 2], [0, -0.5, -4]], [[[1, 2, 3], [1, 2, 3]]], 4),
    "all costs negative, loose": make([[-1, -5], [-3, -4]], [[[1, 2], [1, 2]]], 10),
    "more bits measure worse": make([[0.3, 0.5, 0.2], [0.3, 0.1, 0.4]], [[[1, 2, 4], [1, 2, 4]]], 5),
    "spend is not monotone": make([[3, 2, 1], [3, 2, 1]], [[[3, 1, 2], [1, 3, 2]]], 4),
    "zero sizes": make([[3, 1], [5, 2]], [[[0, 0], [1, 4]]], 3),
    "zero limit": make([[3, 1], [5, 2]], [[[0, 1], [0, 4]]], 0),
    "negative spends": make([[3, 1], [5, 2]], [[[-3, -1], [-4, -2]]], -4),
    "missing options": make(
        [[3, NAN, 1], [NAN, 2, NAN], [5, 4, NAN]], [[[1, 0, 3], [0, 2, 0], [1, 2, 0]]], 6
    ),
    "tiny costs": make([[9e-7, 4e-7, 1e-7], [8e-7, 5e-7, 0]], [[[1, 2, 4], [1, 2, 4]]], 6),
    "huge and tiny costs in one table": make(
        [[1e30, 4e-30, 1e-30], [1e30, 5e-30, 2e-30]], [[[1, 2, 4], [1, 2, 4]]], 6
    ),
    "huge gain that never fits": make(
        [[0, 1e4, 2e30], [3e-27, 2e-10, 0], [3e-4, -2e21, 2e7], [0, 2e17, -10]],
        [[[0, 0, 0], [2, 3, 0], [0, 3, 3], [2, 4, 2]]],
        4.5,
    ),
    "an equality over decimals": make(
        [[-2, 0.5], [-0.6, -0.4], [-0.9, 3]],
        [[[0.1, 0.3], [0.2, 0.1], [0.3, 0.1]], [[-0.1, -0.3], [-0.2, -0.1], [-0.3, -0.1]]],
        [0.1 + 0.2 + 0.3, -(0.1 + 0.2 + 0.3)],
    ),
    "decimals at the limit": make([[1, 0], [1, 0]], [[[0.1, 0.1], [0.1, 0.2]]], 0.3 + 1e-9 * 0.3),
    "two limits": make(
        [[9, 4, 1], [8, 5, 0], [7, 3, 2]],
        [[[1, 2, 4], [1, 2, 4], [1, 2, 4]], [[5, 1, 2], [1, 6, 3], [2, 2, 2]]],
        [9, 9],
    ),
    "two limits, one of them slack": make(
        [[9, 4, 1], [8, 5, 0]], [[[1, 2, 4], [1, 2, 4]], [[1, 1, 1], [1, 1, 1]]], [6, 50]
    ),
    "each limit alone can be met, together they cannot": make(
        [[1, 2], [1, 2]], [[[1, 3], [1, 3]], [[3, 1], [3, 1]]], [3, 3]
    ),
    "relaxation is feasible, integers are not": make(
        [[1, 1], [1, 1]], [[[0, 2], [0, 2]], [[0, -2], [0, -2]]], [1, -1]
    ),
    "three limits": make(
        [[6, 3, 1], [5, 2, 0], [4, 3, 1], [9, 3, 2]],
        [
            [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]],
            [[4, 2, 1], [1, 5, 2], [2, 2, 3], [3, 1, 1]],
            [[1, 0, 2], [2, 2, 0], [0, 1, 1], [1, 1, 2]],
        ],
        [8, 9, 5],
    ),
}


def random_problem(rng: np.random.Generator, *, limits: int) -> Problem:
    """A small random problem with ties, negative costs, missing options and tight or impossible limits."""
    units, options = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    whole = rng.random() < 0.5
    cost = rng.integers(-4, 9, (units, options)) if whole else rng.normal(size=(units, options))
    cost = np.where(rng.random((units, options)) < 0.15, np.nan, cost.astype(float))
    cost[np.arange(units), rng.integers(0, options, units)] = rng.integers(0, 5)
    spend = rng.integers(0, 8, (limits, units, options)).astype(float)
    if not whole:
        spend += rng.random(spend.shape)
    low, high = spend.min(axis=2).sum(axis=1), spend.max(axis=2).sum(axis=1)
    limit = low + rng.uniform(-0.1, 1.0, limits) * (high - low)
    return make(cost, spend, np.floor(limit) if whole else limit)
