"""Limits without a price are left out until a plan breaks them.

A limit that the dual gives no price mostly does not bind. Without it there are fewer sums to carry, so that more states
beat others: under one limit the search takes moments where it takes minutes with a second one that never binds. What is
proved without a limit holds with it: no plan of the whole is better, and a plan that keeps the limit anyway is optimal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from allocator.bounds.dual import Dual
from allocator.contract.status import Status
from allocator.knapsack.bands import Bands
from allocator.knapsack.problem import BoolArray, Problem, with_limits
from allocator.solvers.outcome import Outcome, found, infeasible


def idle_sides(problem: Problem, dual: Dual) -> BoolArray:
    """Find the side of each band that has no price.

    Returns:
        (R,) flags. Where neither side has a price it is the lower one.
    """
    idle = np.zeros(problem.limits, dtype=bool)
    bands = Bands.of(problem)
    for upper, lower in zip(bands.upper[bands.signed], bands.lower[bands.signed], strict=True):
        idle[upper if dual.multipliers[lower] > 0 else lower] = True
    return idle


def without_idle(
    problem: Problem, before: Outcome, idle: BoolArray, run: Callable[[Problem], Outcome], *, canonical: bool
) -> Outcome:
    """Solve without some limits, and take those back that the best plan breaks.

    Args:
        before: What is known so far.
        idle: (R,) the limits to leave out at first.
        canonical: Whether ties that are broken without the limits are broken with them: they are where what a limit
            adds up is also added up by one that stays.

    Returns:
        What is known now.
    """
    kept, outcome = ~idle, before
    while not kept.all():
        relaxed = run(with_limits(problem, kept))
        work = {**outcome.work, **{name: outcome.work.get(name, 0) + n for name, n in relaxed.work.items()}}
        if relaxed.status is Status.INFEASIBLE:
            return infeasible(work)
        bound, choice = max(outcome.bound, relaxed.bound), outcome.choice
        broken = np.zeros(problem.limits, dtype=bool)
        if relaxed.choice is not None:
            broken = ~kept & (problem.used(relaxed.choice) > problem.limit)
            if not broken.any() and problem.feasible(relaxed.choice):
                if relaxed.status is Status.OPTIMAL:
                    return replace(relaxed, canonical=relaxed.canonical and canonical, work=work)
                if choice is None or problem.objective(relaxed.choice) < problem.objective(choice):
                    choice = relaxed.choice
        if choice is None:
            outcome = Outcome(Status.NO_SOLUTION, None, bound, work)
        else:
            outcome = found(problem, choice, bound, work)
        if outcome.status is Status.OPTIMAL or not broken.any():
            return outcome
        kept = kept | broken
    return outcome
