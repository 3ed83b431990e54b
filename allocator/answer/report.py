"""A solver's outcome as a certified answer in the words of the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from allocator.answer.certificate import certify
from allocator.answer.infeasible import achievable
from allocator.answer.notes.gather import beside
from allocator.bounds.dual import maximise_dual
from allocator.contract.allocation import Allocation, Certificate, Level, SolverReport, Usage
from allocator.contract.errors import CertificateError
from allocator.contract.note import Note
from allocator.contract.request import Request
from allocator.contract.status import Status
from allocator.contract.versions import installed_version
from allocator.knapsack.compile import Compiled, with_cost
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.deadline import Deadline
from allocator.solvers.outcome import PROOF_TOLERANCE, WHOLE_TOLERANCE, Outcome, relative_gap

_TIE_BREAK = "least spend, then layer order"
_LATER_LEVELS = "The first objective is proved; `levels` says how far each of the others is."
#: Solvers that prove; without a time limit they end unproved only at the default amount of work.
_PROVING = ("exact", "highs", "pulp", "cpsat")


def report_outcome(
    compiled: Compiled,
    request: Request,
    outcome: Outcome,
    report: SolverReport,
    deadline: Deadline | None = None,
) -> Allocation:
    """Turn a solver's outcome into a certified answer.

    Args:
        outcome: What the solver claims.
        report: Who claims it.
        deadline: When the answer is due; by default what the solver left of the request's time limit.

    Returns:
        The allocation.

    Raises:
        CertificateError: The plan contradicts the tables, or does not cost what the solver proved.
    """
    profile, objective = compiled.profile, compiled.objectives[0]
    if deadline is None:
        deadline = Deadline(
            None if request.time_limit_s is None else max(request.time_limit_s - report.seconds, 0.0)
        )
    bound = objective.reported(outcome.bound) if np.isfinite(outcome.bound) else None
    frame = _Frame(outcome.status, objective.label, report, profile.digest(), installed_version("bitalloc"))
    if outcome.choice is None:
        reach = achievable(compiled, deadline) if outcome.status is Status.INFEASIBLE else {}
        return frame.allocation(
            bound=bound, achievable=reach, **_beside(compiled, request, outcome, report, None)
        )
    assignment, fusions = compiled.assignment(outcome.choice), compiled.fusions(outcome.choice)
    certificate = certify(profile, request, assignment, fusions)
    if certificate.violations:
        raise CertificateError(
            f"solver {report.name!r} gave a plan that breaks the request: {'; '.join(certificate.violations)}"
        )
    _require_claim(compiled, outcome, report, certificate)
    levels = _levels(compiled, outcome, certificate)
    first = levels[0].status if levels else outcome.status
    proved = certificate.objective if first is Status.OPTIMAL else bound
    gap = None if proved is None else relative_gap(certificate.objective, proved)
    prices = _prices(compiled, outcome, deadline)
    labels = (goal.label for goal in compiled.objectives[1:])
    return frame.allocation(
        assignment=assignment,
        fusions=fusions,
        objective=certificate.objective,
        bound=proved,
        gap=gap,
        then=dict(zip(labels, certificate.objectives[1:], strict=True)),
        levels=levels,
        advice=_LATER_LEVELS if first is not outcome.status else outcome.status.advice(),
        tie_break=_TIE_BREAK if outcome.canonical else None,
        usage={row.name: _use(compiled, row, certificate.used[row.name], prices) for row in compiled.rows},
        certificate=certificate,
        left_out=("shadow_prices",) if prices is None and compiled.sides else (),
        **_beside(compiled, request, outcome, report, gap),
    )


def _beside(
    compiled: Compiled, request: Request, outcome: Outcome, report: SolverReport, gap: float | None
) -> dict[str, Any]:
    fields = beside(compiled, request, outcome.choice, report.seconds)
    return {**fields, "notes": (*fields["notes"], *_unfinished(request, outcome, report, gap))}


def _unfinished(
    request: Request, outcome: Outcome, report: SolverReport, gap: float | None
) -> tuple[Note, ...]:
    # With a time limit people know why a search ended; without one it is the amount of work.
    ended = outcome.status in {Status.FEASIBLE, Status.NO_SOLUTION} and (gap is None or gap > request.gap)
    if not ended or request.time_limit_s is not None or report.name not in _PROVING:
        return ()
    amount = "a default amount of work" if request.node_limit is None else f"{request.node_limit} nodes"
    text = (
        f"the search ended unproved after {amount}; time_limit_s or a larger node_limit let it look longer, "
        "and a gap above 0 lets it end as soon as the plan is proved to be that near to the best"
    )
    return (Note(about="search", text=text),)


def _levels(compiled: Compiled, outcome: Outcome, certificate: Certificate) -> tuple[Level, ...]:
    levels = []
    for goal, (status, bound), objective in zip(
        compiled.objectives, outcome.levels, certificate.objectives, strict=False
    ):
        reported = goal.reported(bound) if np.isfinite(bound) else None
        proved = objective if status is Status.OPTIMAL else reported
        gap = None if proved is None else relative_gap(objective, proved)
        levels.append(Level(name=goal.label, status=status, objective=objective, bound=proved, gap=gap))
    return tuple(levels)


def _require_claim(
    compiled: Compiled, outcome: Outcome, report: SolverReport, certificate: Certificate
) -> None:
    # An optimal plan costs what the solver proved to be the least, or its proof was of another plan.
    if outcome.choice is None:
        return
    chosen = np.arange(compiled.problem.units), outcome.choice
    for at, (status, bound) in enumerate(outcome.levels or ((outcome.status, outcome.bound),)):
        if status is not Status.OPTIMAL:
            return
        claimed = compiled.objectives[at].reported(bound)
        has, terms = certificate.objectives[at], np.abs(compiled.costs[at][chosen]).sum()
        tolerance = PROOF_TOLERANCE * max(float(terms), abs(claimed))
        if (with_cost(compiled, at) if at else compiled.problem).whole_cost:
            tolerance = min(tolerance, WHOLE_TOLERANCE)
        if abs(has - claimed) > tolerance:
            raise CertificateError(
                f"solver {report.name!r} proved an objective of {claimed!r}, but its plan has {has!r}"
            )


@dataclass(frozen=True)
class _Frame:
    """What every answer has."""

    status: Status
    objective_name: str
    solver: SolverReport
    profile_sha256: str
    version: str

    def allocation(self, **fields: object) -> Allocation:
        return Allocation.model_validate(
            {
                "status": self.status,
                "advice": self.status.advice(),
                "objective_name": self.objective_name,
                "solver": self.solver,
                "profile_sha256": self.profile_sha256,
                "version": self.version,
                **fields,
            }
        )


def _prices(compiled: Compiled, outcome: Outcome, deadline: Deadline) -> list[float] | None:
    # None where time ran out: other multipliers would give a bound, but no price.
    if outcome.prices is not None:
        prices: list[float] = outcome.prices.tolist()
        return prices
    if deadline.passed():
        return None
    dual = maximise_dual(compiled.problem, deadline=deadline)
    return dual.multipliers.tolist() if dual.complete else None


def _use(compiled: Compiled, row: Constraint, used: float, prices: list[float] | None) -> Usage:
    mine = [
        price
        for price, (other, _) in zip(prices or (), compiled.sides, strict=prices is not None)
        if other.scope == row.scope
    ]
    return Usage(
        used=used,
        limit=row.limit,
        at_least=row.at_least,
        slack=row.slack(used),
        unit=row.unit,
        shadow_price=max(mine) / row.per_unit if mine and not row.peak else None,
    )
