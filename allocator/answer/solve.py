"""Profile and request in, certified Allocation out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from allocator.answer.certificate import certify
from allocator.answer.infeasible import achievable
from allocator.answer.lexicographic import solve_in_order
from allocator.answer.notes.gather import beside
from allocator.bounds.dual import maximise_dual
from allocator.contract.allocation import Allocation, Certificate, Level, SolverReport, Usage
from allocator.contract.errors import CertificateError
from allocator.contract.profile import Profile, ProfileSource, load_profile
from allocator.contract.request import Request, RequestFields, make_request
from allocator.contract.status import Status
from allocator.contract.versions import installed_version
from allocator.knapsack.compile import Compiled, compile_problem, with_cost
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.deadline import Deadline
from allocator.solvers import SOLVERS
from allocator.solvers.exact.started import started
from allocator.solvers.outcome import PROOF_TOLERANCE, WHOLE_TOLERANCE, Effort, Outcome, relative_gap

_TIE_BREAK = "least spend, then layer order"
_LATER_LEVELS = "The first objective is proved; `levels` says how far each of the others is."


def solve(profile: ProfileSource, **fields: Unpack[RequestFields]) -> Allocation:
    """Find the best plan within the budgets, and prove it.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        **fields: The fields of :class:`~allocator.contract.request.Request`: ``objective``, ``budgets``, ``limits``,
            ``pin``, ``allow``, ``forbid``, ``caution``, ``solver``, ``gap``, ``time_limit_s``.

    Returns:
        The allocation. A request that no plan can meet is an answer too: status ``infeasible``, with what each budget
        would have to be.

    Raises:
        InvalidInputError: Profile or request cannot be used; names every offending field.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up", "parameters": 100}, {"name": "down", "parameters": 100}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]]}},
        ...     "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> plan = solve(profile, objective="kl", budgets={"effective_bits": 6})
        >>> plan.assignment, plan.status.value, round(plan.objective, 9)
        ({'up': 'int8', 'down': 'int4'}, 'optimal', 0.4)
    """
    return solve_request(load_profile(profile), make_request(fields))


@dataclass(frozen=True)
class SolveProgress:
    """How far a long search has come.

    Attributes:
        objective: Of the best plan so far; None before the first.
        bound: No plan has a better objective; None where nothing is known yet.
        gap: Distance between the two, relative to the larger.
        seconds: Since the search began.
    """

    objective: float | None
    bound: float | None
    gap: float | None
    seconds: float


def solve_request(
    profile: Profile, request: Request, progress: Callable[[SolveProgress], None] | None = None
) -> Allocation:
    """Solve a validated request.

    Args:
        progress: Told of better plans and bounds while the first objective is solved; it must return quickly.

    Returns:
        The allocation.

    Raises:
        InvalidInputError: The request does not fit the profile.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.
    """
    SOLVERS.find(request.solver)
    deadline = Deadline(request.time_limit_s)
    return solve_compiled(compile_problem(profile, request), request, progress, deadline)


def solve_compiled(
    compiled: Compiled,
    request: Request,
    progress: Callable[[SolveProgress], None] | None = None,
    deadline: Deadline | None = None,
) -> Allocation:
    """Solve a compiled request.

    Args:
        compiled: What :func:`~allocator.knapsack.compile.compile_problem` made of the request.
        progress: Told of better plans and bounds.
        deadline: When the answer is due; by default the request's time limit from now.

    Returns:
        The allocation.

    Raises:
        CertificateError: The solver's plan contradicts the tables.
    """
    deadline = Deadline(request.time_limit_s) if deadline is None else deadline
    outcome, report = run_solver(compiled, request, progress, deadline)
    return report_outcome(compiled, request, outcome, report, deadline)


def run_solver(
    compiled: Compiled,
    request: Request,
    progress: Callable[[SolveProgress], None] | None = None,
    deadline: Deadline | None = None,
) -> tuple[Outcome, SolverReport]:
    """Let the solver that a request names work on it.

    Args:
        progress: Told of better plans and bounds.
        deadline: When the answer is due; by default the request's time limit from now.

    Returns:
        What the solver claims, and who it is.
    """
    deadline = Deadline(request.time_limit_s) if deadline is None else deadline
    entry, why = SOLVERS.find(request.solver).chosen(compiled.problem)
    start = time.perf_counter()
    tell = None if progress is None else watching(compiled, progress, start)
    left_s = deadline.before(_reserve_s(request, deadline)).left_s()
    run = entry.load()
    if request.solver == "auto" and entry.name != "exact":
        run = started(run)
    outcome = solve_in_order(compiled, run, Effort(request.gap, left_s, progress=tell))
    seconds = time.perf_counter() - start
    return outcome, SolverReport(
        name=entry.name, why=why, version=entry.version(), seconds=seconds, work=dict(outcome.work)
    )


def _reserve_s(request: Request, deadline: Deadline) -> float:
    # Checking and naming a plan takes about as long as compiling the request did.
    left_s = deadline.left_s()
    if request.time_limit_s is None or left_s is None:
        return 0.0
    return min(max(request.time_limit_s - left_s, 0.0), 0.4 * request.time_limit_s)


def watching(
    compiled: Compiled, progress: Callable[[SolveProgress], None], start: float
) -> Callable[[float | None, float], None]:
    """Translate what a solver tells into amounts of the objective.

    Args:
        progress: Told of better plans and bounds.
        start: When the search began, by :func:`time.perf_counter`.

    Returns:
        For :class:`~allocator.solvers.outcome.Effort`.
    """
    goal = compiled.objectives[0]

    def told(cost: float | None, bound: float) -> None:
        objective = None if cost is None else goal.reported(cost)
        proved = goal.reported(bound) if np.isfinite(bound) else None
        gap = None if objective is None or proved is None else relative_gap(objective, proved)
        progress(SolveProgress(objective, proved, gap, time.perf_counter() - start))

    return told


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
            bound=bound, achievable=reach, **beside(compiled, request, None, report.seconds)
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
    prices = _prices(compiled, outcome, deadline)
    labels = (goal.label for goal in compiled.objectives[1:])
    return frame.allocation(
        assignment=assignment,
        fusions=fusions,
        objective=certificate.objective,
        bound=proved,
        gap=None if proved is None else relative_gap(certificate.objective, proved),
        then=dict(zip(labels, certificate.objectives[1:], strict=True)),
        levels=levels,
        advice=_LATER_LEVELS if first is not outcome.status else outcome.status.advice(),
        tie_break=_TIE_BREAK if outcome.canonical else None,
        usage={row.name: _use(compiled, row, certificate.used[row.name], prices) for row in compiled.rows},
        certificate=certificate,
        left_out=("shadow_prices",) if prices is None and compiled.sides else (),
        **beside(compiled, request, outcome.choice, report.seconds),
    )


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
