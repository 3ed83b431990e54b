"""Plans worth thinking about: all of them where they can be listed, else what the solver finds and its exchanges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import numpy as np

from allocator.knapsack.problem import FloatArray, IntArray
from allocator.solvers import SOLVERS, Effort
from quantize.feedback.space import Space
from quantize.feedback.surrogate import Surrogate

#: Spaces of at most so many plans are listed.
LISTED = 20_000
_DRAWS = 16
_MOVES = 96
_SWAPS = 512


def candidates(
    surrogate: Surrogate, listed: IntArray | None, around: Iterable[IntArray], random: np.random.Generator
) -> IntArray:
    """Collect the plans that may be measured next.

    Args:
        listed: (N, U) from :func:`all_within`; None where there are too many.
        around: Plans to exchange units of, each (U,).
        random: For draws of the corrected table.

    Returns:
        (N, U) plans within the limits; without a list: the optimum of the corrected table and of draws from it, and
        the exchanges of these and of the given plans that the corrected table likes best.
    """
    if listed is not None:
        return listed
    space = surrogate.space
    mean = surrogate.corrected_cost()
    tables = [mean, *(surrogate.corrected_cost(random) for _ in range(_DRAWS))]
    solved = [plan for table in tables if (plan := optimum(space, table)) is not None]
    centres = [*around, *solved[:1]]
    found = [np.array(solved, dtype=np.int64).reshape(-1, space.units)]
    found += [exchanges(space, mean, centre) for centre in centres]
    plans = np.unique(np.concatenate(found), axis=0)
    return plans[space.within(plans)]


def all_within(space: Space) -> IntArray | None:
    """List every plan within the limits.

    Returns:
        (N, U) in lexicographic order; None where the space has more than :data:`LISTED` plans.
    """
    if space.size > LISTED:
        return None
    options = [np.flatnonzero(row).tolist() for row in space.compiled.problem.available]
    plans = np.array(list(product(*options)), dtype=np.int64).reshape(-1, space.units)
    return plans[space.within(plans)]


def optimum(space: Space, cost: FloatArray) -> IntArray | None:
    """Solve for another table.

    Args:
        cost: (U, O).

    Returns:
        (U,) the plan, None where the limits leave none.
    """
    problem = space.compiled.problem
    finite = np.where(problem.available, cost, 0.0)
    return SOLVERS["exact"].load()(replace(problem, cost=finite), Effort()).choice


def exchanges(space: Space, cost: FloatArray, centre: IntArray) -> IntArray:
    """Change one unit, or two at once, and keep within the limits.

    Args:
        cost: (U, O) the corrected table, which says what is tried first.
        centre: (U,) the plan to change.

    Returns:
        (N, U): all single changes, and the most promising pairs of changes of different units.
    """
    problem, at = space.compiled.problem, np.arange(space.units)
    gain = np.where(problem.available, cost - cost[at, centre][:, None], np.inf)  # (U, O)
    gain[at, centre] = np.inf
    price = problem.spend - problem.spend[:, at, centre][:, :, None]  # (R, U, O)
    room = problem.limit - problem.used(centre)  # (R,)
    units, options = np.nonzero(np.isfinite(gain))
    single = _changed(centre, (units, options))
    better = np.flatnonzero(gain[units, options] < 0)
    worse = np.flatnonzero(gain[units, options] >= 0)
    # Swaps are of the changes with the best exchange rate between cost and spending, over all limits.
    scale = np.abs(price).sum(axis=(1, 2)) + 1e-300
    spent = (price / scale[:, None, None]).sum(axis=0)[units, options] if len(price) else np.zeros(units.size)
    rate = gain[units, options] / (np.abs(spent) + 1e-300)
    better = better[np.argsort(rate[better], kind="stable")][:_MOVES]
    worse = worse[np.argsort(rate[worse], kind="stable")][:_MOVES]
    first, second = (grid.ravel() for grid in np.meshgrid(better, worse, indexing="ij"))
    paired = price[:, units[first], options[first]] + price[:, units[second], options[second]]
    fits = (paired <= room[:, None]).all(axis=0) & (units[first] != units[second])
    first, second = first[fits], second[fits]
    total = gain[units[first], options[first]] + gain[units[second], options[second]]
    best = np.argsort(total, kind="stable")[:_SWAPS]
    first, second = first[best], second[best]
    double = _changed(centre, (units[first], options[first]), (units[second], options[second]))
    plans = np.concatenate([single, double])
    return plans[space.within(plans)]


def _changed(centre: IntArray, *moves: tuple[IntArray, IntArray]) -> IntArray:
    count = len(moves[0][0])
    plans = np.repeat(centre[None], count, axis=0)
    for units, options in moves:
        plans[np.arange(count), units] = options
    return plans
