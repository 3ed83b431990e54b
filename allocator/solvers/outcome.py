"""What every solver takes and gives back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from allocator.problem import IntArray, Problem, masked_cost
from allocator.status import Status

#: Relative distance below which a bound proves an objective: the resolution of sums of doubles.
PROOF_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes:
        gap: Relative distance to the optimum that is good enough.
        time_limit_s: Seconds to spend; None for as long as it takes.
    """

    gap: float = 0.0
    time_limit_s: float | None = None


class Deadline:
    """A point in time that a solver must not pass.

    Args:
        time_limit_s: Seconds from now; None never expires.
    """

    def __init__(self, time_limit_s: float | None) -> None:
        self._end = None if time_limit_s is None else time.monotonic() + time_limit_s

    def passed(self) -> bool:
        """Whether the time is up.

        Returns:
            True once it is.
        """
        return self._end is not None and time.monotonic() >= self._end

    def left_s(self) -> float | None:
        """Seconds left.

        Returns:
            At least 1 ms, or None when there is no limit.
        """
        return None if self._end is None else max(self._end - time.monotonic(), 1e-3)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a solver found and what it proved.

    Attributes:
        status: The claim.
        choice: (U,) option of each unit; None where there is no plan.
        bound: No plan costs less than this; -inf where nothing is known, +inf where infeasible.
        work: Counts of what was done (dual evaluations, states, nodes).
    """

    status: Status
    choice: IntArray | None
    bound: float
    work: Mapping[str, int] = field(default_factory=dict)


class Solver(Protocol):
    """A solver is a function in a module of its own; see CONTRIBUTING.md."""

    def __call__(self, problem: Problem, effort: Effort) -> Outcome:
        """Solve a problem."""
        ...


def infeasible(**work: int) -> Outcome:
    """Claim that no plan keeps every limit.

    Args:
        **work: Counts of what was done.

    Returns:
        The outcome.
    """
    return Outcome(Status.INFEASIBLE, None, np.inf, work)


def found(problem: Problem, choice: IntArray, bound: float, **work: int) -> Outcome:
    """Claim a plan, optimal only if the bound proves it.

    Args:
        problem: The problem.
        choice: (U,) the plan, which keeps every limit.
        bound: No plan costs less than this.
        **work: Counts of what was done.

    Returns:
        The outcome; a bound within the proof tolerance of the objective is reported as the objective.
    """
    objective = problem.objective(choice)
    free = float(
        masked_cost(problem).min(axis=1).sum()
    )  # without any limit; no option that costs more matters
    bound = min(max(bound, free), objective)
    proved = objective - bound <= PROOF_TOLERANCE * max(abs(objective), abs(bound), objective - free)
    return Outcome(
        Status.OPTIMAL if proved else Status.FEASIBLE, choice, objective if proved else bound, work
    )


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
