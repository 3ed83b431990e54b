"""Parts of a problem that have nothing to do with each other are solved apart: each proved, together proved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from allocator.contract.status import Status
from allocator.knapsack.components import Component, assembled
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import Problem
from allocator.solvers.outcome import Effort, Outcome, found, infeasible

#: Solves one part.
_Run = Callable[[Problem, Effort], Outcome]
#: Rounding of a sum of bounds, relative to its terms.
_ROUNDING = 1e-14
#: Counts of work that are peaks; all others are added up.
PEAKS = ("peak_states", "core_units", "half_units", "mip_units")


def solve_in_parts(
    problem: Problem, parts: Sequence[Component], run: _Run, effort: Effort, deadline: Deadline
) -> Outcome | None:
    """Solve every part and put the plans together.

    Each part has its share of the time that is left, and what one leaves over is for the others: those that were not
    proved are solved again in what is left at the end.

    Args:
        problem: The whole problem.
        run: Solves a problem.
        effort: Gap for the whole, and who is told.

    Returns:
        The outcome for the whole; None where the sums of the whole are rounded otherwise than those of the parts and a
        limit is passed by that.
    """
    told = _Told(effort, len(parts))
    outcomes: list[Outcome] = []
    for at, part in enumerate(parts):
        outcomes.append(
            run(part.problem, told.effort(at, _share(deadline, len(parts) - at), _gap(problem, effort)))
        )
        if outcomes[at].status is Status.INFEASIBLE:
            return infeasible(_added(outcomes))
        told.ended(at, part.problem, outcomes[at])
    left_s = deadline.left_s()
    for at, part in enumerate(parts):
        if left_s is None or deadline.passed() or outcomes[at].status is Status.OPTIMAL:
            continue
        again = run(part.problem, told.effort(at, _share(deadline, 1), _gap(problem, effort)))
        outcomes[at] = _better(part.problem, outcomes[at], again)
        if outcomes[at].status is Status.INFEASIBLE:
            return infeasible(_added(outcomes))
    return _together(problem, parts, outcomes)


def _share(deadline: Deadline, parts: int) -> float | None:
    left_s = deadline.left_s()
    return None if left_s is None else left_s / parts


def _gap(problem: Problem, effort: Effort) -> float:
    # Relative gaps of parts make one of the whole only where no part takes away from another.
    costs = problem.cost[problem.available]
    return effort.gap if (costs >= 0).all() or (costs <= 0).all() else 0.0


def _better(problem: Problem, first: Outcome, second: Outcome) -> Outcome:
    if second.status in {Status.OPTIMAL, Status.INFEASIBLE}:
        return second
    plans = [item.choice for item in (second, first) if item.choice is not None]
    bound = max(first.bound, second.bound)
    if not plans:
        return replace(second, bound=bound)
    return replace(
        found(problem, min(plans, key=problem.objective), bound, second.work), prices=second.prices
    )


def _together(problem: Problem, parts: Sequence[Component], outcomes: Sequence[Outcome]) -> Outcome | None:
    bounds = np.array([item.bound for item in outcomes])
    bound = float(bounds.sum() - _ROUNDING * np.abs(bounds).sum()) if np.isfinite(bounds).all() else -np.inf
    work = _added(outcomes)
    prices = np.zeros(problem.limits)
    for part, item in zip(parts, outcomes, strict=True):
        prices[part.limits] = np.nan if item.prices is None else item.prices
    known = None if np.isnan(prices).any() else prices
    plans = [
        (part, item.choice) for part, item in zip(parts, outcomes, strict=True) if item.choice is not None
    ]
    if len(plans) < len(parts):
        return Outcome(Status.NO_SOLUTION, None, bound, work, prices=known)
    choice = assembled(problem, plans)
    if not problem.feasible(choice):
        return None
    if all(item.status is Status.OPTIMAL for item in outcomes):
        bound = problem.objective(choice)
    canonical = all(item.canonical for item in outcomes)
    return replace(found(problem, choice, bound, work, canonical=canonical), prices=known)


def _added(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    work = {"parts": len(outcomes)}
    for outcome in outcomes:
        for name, count in outcome.work.items():
            work[name] = max(work.get(name, 0), count) if name in PEAKS else work.get(name, 0) + count
    return work


class _Told:
    """Turns what parts tell into costs and bounds of the whole."""

    def __init__(self, effort: Effort, parts: int) -> None:
        self._effort = effort
        self._cost: list[float | None] = [None] * parts
        self._bound = [-np.inf] * parts

    def effort(self, at: int, time_limit_s: float | None, gap: float) -> Effort:
        share = self._effort.share / len(self._cost)
        asked = replace(self._effort, gap=gap, time_limit_s=time_limit_s, share=share)
        return (
            asked
            if asked.progress is None
            else replace(asked, progress=lambda *facts: self._tell(at, *facts))
        )

    def ended(self, at: int, problem: Problem, outcome: Outcome) -> None:
        self._tell(at, None if outcome.choice is None else problem.objective(outcome.choice), outcome.bound)

    def _tell(self, at: int, cost: float | None, bound: float) -> None:
        before = self._cost[at]
        self._cost[at] = cost if before is None or cost is None else min(before, cost)
        self._bound[at] = max(self._bound[at], bound)
        if self._effort.progress is not None:
            known = [item for item in self._cost if item is not None]
            whole = sum(known) if len(known) == len(self._cost) else None
            self._effort.progress(whole, float(sum(self._bound)))
