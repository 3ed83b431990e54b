"""What a search for a better plan found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from allocator import (
    Allocation,
    Fault,
    InvalidInputError,
    Profile,
    Request,
    SolverReport,
    Status,
    solve_request,
)
from allocator.contract.versions import installed_version
from allocator.knapsack.problem import IntArray
from allocator.solvers.outcome import relative_gap
from quantize.feedback.measurement import Measurement

#: Where a plan came from: the solver's first answer, a baseline, the least of a resource, or the search.
Origin = Literal["start", "uniform", "greedy", "lightest", "search"]


@dataclass(frozen=True, eq=False)
class Trial:
    """A plan that was measured.

    Attributes:
        origins: Where it came from; several where the first plans are the same.
        assignment: Layer name to format name.
        predicted: What the table adds up to for it.
        measurement: What it measured.
        fits: Whether it keeps every budget, by what was measured of it where that was, else by the tables.
        choice: (U,) its options.
    """

    origins: tuple[Origin, ...]
    assignment: dict[str, str]
    predicted: float
    measurement: Measurement
    fits: bool
    choice: IntArray = field(repr=False)

    @property
    def loss(self) -> float:
        """The measured loss."""
        return self.measurement.loss


@dataclass(frozen=True, eq=False)
class Refined:
    """The best plan that was measured, and all others.

    Attributes:
        allocation: The plan with its certificate: ``feasible``, for nobody proves what was not measured. Objective and
            bound are those of the table.
        best: The plan as it was measured.
        trials: Every plan that was measured, in order.
        stopped: Why the search ended.
        profile: The profile, with its tables of resources as the plans measured them.
    """

    allocation: Allocation
    best: Trial
    trials: tuple[Trial, ...]
    stopped: str
    profile: Profile

    def loss_of(self, origin: Origin) -> float | None:
        """Return the loss of a plan that the search began with; None where there was no such plan."""
        return next((trial.loss for trial in self.trials if origin in trial.origins), None)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Find the plan with the least loss among those within the budgets.

    Returns:
        The first of equally good ones; None where none fits.
    """
    return min((trial for trial in trials if trial.fits), key=lambda trial: trial.loss, default=None)


def reported(profile: Profile, request: Request, trials: Sequence[Trial], stopped: str) -> Refined:
    """Put together what a search found.

    Args:
        profile: The tables, resources corrected.
        trials: Every plan that was measured.
        stopped: Why the search ended.

    Returns:
        The best plan, with its certificate.

    Raises:
        InvalidInputError: No plan that was measured keeps the budgets.
    """
    best = best_of(trials)
    if best is None:
        raise InvalidInputError(Fault("/budgets", _none_fits(request, trials)))
    fixed = request.model_copy(update={"pin": best.assignment, "allow": {}, "forbid": {}, "solver": "auto"})
    certified = solve_request(profile, fixed)
    if certified.assignment is None:  # measured within the budgets, though the corrected table has it above
        certified = solve_request(profile, fixed.model_copy(update={"budgets": {}}))
    bound = solve_request(profile, request).bound
    return Refined(_allocation(certified, bound, best, len(trials)), best, tuple(trials), stopped, profile)


def _allocation(certified: Allocation, bound: float | None, best: Trial, trials: int) -> Allocation:
    assert certified.objective is not None
    least = certified.objective if bound is None else min(bound, certified.objective)
    advice = f"The best of {trials} measured plans, loss {best.loss:.6g}; objective and bound are those of the table."
    version, work = installed_version("bitalloc"), {"evaluations": trials}
    return certified.model_copy(
        update={
            "status": Status.FEASIBLE,
            "advice": advice,
            "bound": least,
            "gap": relative_gap(certified.objective, least),
            "tie_break": None,
            "notes": tuple(note for note in certified.notes if note.about != "pins"),  # pinned to certify it
            "solver": SolverReport(name="refine", version=version, seconds=0.0, work=work),
        }
    )


def _none_fits(request: Request, trials: Sequence[Trial]) -> str:
    parts = []
    for name, amount in request.budgets.items():
        measured = [
            value for trial in trials if (value := getattr(trial.measurement, name, None)) is not None
        ]
        if measured:
            parts.append(
                f"{name}: asked for at most {amount}, the least that a plan measured is {min(measured):g}"
            )
    return f"none of {len(trials)} measured plans keeps every budget; {'; '.join(parts)}"
