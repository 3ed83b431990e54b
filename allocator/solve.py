"""Profile and request in, certified Allocation out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from allocator.allocation import Allocation, SolverReport, Usage
from allocator.certificate import certify
from allocator.compile import Compiled, compile_problem
from allocator.dual import maximise_dual
from allocator.errors import CertificateError
from allocator.infeasible import achievable
from allocator.profile import Profile, load_profile
from allocator.request import Request, make_request
from allocator.solvers import find_solver
from allocator.solvers.outcome import Effort, Outcome, relative_gap
from allocator.status import Status


def solve(profile: Profile | Mapping[str, object] | str | bytes | Path, **fields: object) -> Allocation:
    """Find the best plan within the budgets, and prove it.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        **fields: The fields of :class:`~allocator.request.Request`: ``objective``, ``budgets``, ``pin``, ``allow``,
            ``forbid``, ``solver``, ``gap``, ``time_limit_s``.

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


def solve_request(profile: Profile, request: Request) -> Allocation:
    """Solve a validated request.

    Args:
        profile: The profile.
        request: The request.

    Returns:
        The allocation.

    Raises:
        InvalidInputError: The request does not fit the profile.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.
    """
    entry = find_solver(request.solver)
    run = entry.load()
    compiled = compile_problem(profile, request)
    start = time.perf_counter()
    outcome = run(compiled.problem, Effort(request.gap, request.time_limit_s))
    seconds = time.perf_counter() - start
    report = SolverReport(
        name=request.solver, version=entry.version(), seconds=seconds, work=dict(outcome.work)
    )
    return _allocation(profile, request, compiled, outcome, report)


def _allocation(
    profile: Profile, request: Request, compiled: Compiled, outcome: Outcome, report: SolverReport
) -> Allocation:
    known = np.isfinite(outcome.bound)
    bound = compiled.reported(outcome.bound) if known else None
    frame = {
        "status": outcome.status,
        "advice": outcome.status.advice(),
        "objective_name": compiled.objective.label,
        "bound": bound,
        "solver": report,
        "profile_sha256": profile.digest(),
        "version": metadata.version("bitalloc"),
    }
    if outcome.choice is None:
        reach = (
            achievable(profile, compiled, request.time_limit_s) if outcome.status is Status.INFEASIBLE else {}
        )
        return Allocation(**frame, achievable=reach)
    assignment = compiled.assignment(outcome.choice)
    certificate = certify(profile, request, assignment)
    if certificate.violations:
        raise CertificateError(
            f"solver {report.name!r} gave a plan that breaks the request: {'; '.join(certificate.violations)}"
        )
    proved = outcome.status is Status.OPTIMAL
    reported = certificate.objective if proved else bound
    return Allocation(
        **(frame | {"bound": reported}),
        assignment=assignment,
        objective=certificate.objective,
        gap=None if reported is None else relative_gap(certificate.objective, reported),
        usage=_usage(compiled, certificate.used),
        certificate=certificate,
    )


def _usage(compiled: Compiled, used: Mapping[str, float]) -> dict[str, Usage]:
    prices = dict(zip(compiled.tables, maximise_dual(compiled.problem).multipliers.tolist(), strict=True))
    usage = {}
    for budget in compiled.budgets:
        amount = used[budget.name]
        price = prices.get(budget.table)
        usage[budget.name] = Usage(
            used=amount,
            limit=budget.limit * budget.per_unit,
            slack=budget.slack(amount / budget.per_unit) * budget.per_unit,
            unit=budget.unit,
            at_least=budget.at_least,
            shadow_price=None if price is None else price / budget.per_unit,
        )
    return usage
