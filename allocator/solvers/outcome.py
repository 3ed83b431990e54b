"""What every solver takes and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from allocator.contract.status import Status
from allocator.knapsack.problem import FloatArray, IntArray, Problem, least, masked_cost

#: Relative distance below which a bound proves an objective: the resolution of sums of doubles.
PROOF_TOLERANCE = 1e-9
#: Distance below which a bound proves an objective that is an integer, as all that are less by one are below the bound.
WHOLE_TOLERANCE = 0.999

#: Rounding of a sum of doubles, relative to the sum of their absolute values.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class SumTolerance:
    """How far apart two sums may be and still count as equal: not at all where they are sums of integers.

    Attributes:
        cost: For costs of whole plans.
        spend: (R,) for spends of whole plans.
        reduced: For reduced costs of whole plans, which have prices in them and are never integers.
    """

    cost: float
    spend: FloatArray
    reduced: float

    @classmethod
    def of(cls, problem: Problem, choice: IntArray, multipliers: FloatArray) -> SumTolerance:
        """Size the tolerance by the terms of a plan's sums.

        Args:
            choice: (U,) a plan.
            multipliers: (R,) prices of the limits.

        Returns:
            The tolerance.
        """
        units = np.arange(problem.units)
        cost = _ROUNDING * float(np.abs(problem.cost[units, choice]).sum())
        spend: FloatArray = _ROUNDING * np.abs(problem.spend[:, units, choice]).sum(axis=1)
        reduced = 4 * (cost + float(multipliers @ spend)) + np.finfo(float).tiny
        return cls(0.0 if problem.whole_cost else cost, np.where(problem.whole_spend, 0.0, spend), reduced)


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes:
        gap: Relative distance to the optimum that is good enough.
        time_limit_s: Seconds to spend; None for a default amount of work, which is the same on every machine.
        node_limit: Nodes to spend on each branch and bound; None for as many as the time or the default amount allows.
        share: Part of the default amount of work, where a search is one of several.
        progress: Told the cost of the best plan so far (None before the first) and the bound, whenever a long search
            knows more; it must return quickly.
    """

    gap: float = 0.0
    time_limit_s: float | None = None
    node_limit: int | None = None
    share: float = 1.0
    progress: Callable[[float | None, float], None] | None = None

    def most_nodes(self, default: float) -> int | None:
        """How many nodes of a branch and bound to look at.

        Args:
            default: Where nothing else bounds the work, on which the answer must not depend on the machine.

        Returns:
            At least 1; None where the clock decides.
        """
        if self.node_limit is not None:
            return self.node_limit
        return max(int(default * self.share), 1) if self.time_limit_s is None else None

    def tell(self, problem: Problem, choice: IntArray | None, bound: float) -> None:
        """Report how far a search has come.

        Args:
            choice: (U,) the best plan so far, if there is one.
            bound: No plan costs less than this.
        """
        if self.progress is not None:
            self.progress(None if choice is None else problem.objective(choice), float(bound))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a solver found and what it proved.

    Attributes:
        status: The claim.
        choice: (U,) option of each unit; None where there is no plan.
        bound: No plan costs less than this; -inf where nothing is known, +inf where infeasible.
        work: Counts of what was done (dual evaluations, states, nodes).
        canonical: Whether ties were broken by least spend, then layer order.
        prices: (R,) multipliers that maximise the Lagrangian dual, where the solver found them.
        levels: With several objectives, the claim and the bound for each.
    """

    status: Status
    choice: IntArray | None
    bound: float
    work: Mapping[str, int] = field(default_factory=dict)
    canonical: bool = False
    prices: FloatArray | None = None
    levels: tuple[tuple[Status, float], ...] = ()


class Solver(Protocol):
    """A solver is a function in a module of its own; see CONTRIBUTING.md."""

    def __call__(self, problem: Problem, effort: Effort) -> Outcome:
        """Solve a problem."""
        ...


def infeasible(work: Mapping[str, int] | None = None) -> Outcome:
    """Claim that no plan keeps every limit.

    Args:
        work: Counts of what was done.

    Returns:
        The outcome.
    """
    return Outcome(Status.INFEASIBLE, None, np.inf, work or {})


def found(
    problem: Problem,
    choice: IntArray,
    bound: float,
    work: Mapping[str, int] | None = None,
    *,
    canonical: bool = False,
) -> Outcome:
    """Claim a plan, optimal only if the bound proves it.

    Args:
        choice: (U,) the plan, which keeps every limit.
        bound: No plan costs less than this.
        work: Counts of what was done.
        canonical: Whether ties were broken by least spend, then layer order.

    Returns:
        The outcome; a bound within the proof tolerance of the objective is reported as the objective. Of integers
        that is less than one, whatever their size.
    """
    objective = problem.objective(choice)
    if bound >= objective:
        return Outcome(Status.OPTIMAL, choice, objective, work or {}, canonical)
    free = float(least(masked_cost(problem)).sum())  # without any limit
    bound = min(max(bound, free), objective)
    terms = float(np.abs(problem.cost[np.arange(problem.units), choice]).sum())
    tolerance = max(PROOF_TOLERANCE * min(objective - free, terms), _ROUNDING * terms)
    proved = objective - bound <= (min(tolerance, WHOLE_TOLERANCE) if problem.whole_cost else tolerance)
    status = Status.OPTIMAL if proved else Status.FEASIBLE
    return Outcome(status, choice, objective if proved else bound, work or {}, canonical)


def relative_gap(objective: float, bound: float) -> float:
    """Distance between a plan and a bound, relative to the larger of the two.

    Args:
        objective: Cost of the plan.
        bound: What no plan can beat.

    Returns:
        0 when they agree, 1 when the bound is 0 (or says nothing).
    """
    if objective == bound:
        return 0.0
    largest = max(abs(objective), abs(bound))
    return float(abs(objective - bound) / largest) if np.isfinite(largest) else 1.0
