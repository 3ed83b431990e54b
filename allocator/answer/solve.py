"""Profile and request in, certified Allocation out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from allocator.answer.lexicographic import solve_in_order
from allocator.answer.report import report_outcome
from allocator.contract.allocation import Allocation, SolverReport
from allocator.contract.profile import Profile, ProfileSource, load_profile
from allocator.contract.request import Request, RequestFields, make_request
from allocator.knapsack.compile import Compiled, compile_problem
from allocator.knapsack.deadline import Deadline
from allocator.solvers import SOLVERS
from allocator.solvers.exact.started import started
from allocator.solvers.outcome import Effort, Outcome, Solver, relative_gap


def solve(profile: ProfileSource, **fields: Unpack[RequestFields]) -> Allocation:
    """Find the best plan within the budgets, and prove it.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        **fields: The fields of :class:`~allocator.contract.request.Request`: ``objective``, ``budgets``, ``limits``,
            ``pin``, ``allow``, ``forbid``, ``caution``, ``solver``, ``gap``, ``time_limit_s``, ``node_limit``.

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
    run: Solver | None = None,
) -> Allocation:
    """Solve a compiled request.

    Args:
        compiled: What :func:`~allocator.knapsack.compile.compile_problem` made of the request.
        progress: Told of better plans and bounds.
        deadline: When the answer is due; by default the request's time limit from now.
        run: The solver, prepared for the problem.

    Returns:
        The allocation.

    Raises:
        CertificateError: The solver's plan contradicts the tables.
    """
    deadline = Deadline(request.time_limit_s) if deadline is None else deadline
    outcome, report = run_solver(compiled, request, progress, deadline, run)
    return report_outcome(compiled, request, outcome, report, deadline)


def run_solver(
    compiled: Compiled,
    request: Request,
    progress: Callable[[SolveProgress], None] | None = None,
    deadline: Deadline | None = None,
    run: Solver | None = None,
) -> tuple[Outcome, SolverReport]:
    """Let the solver that a request names work on it.

    Args:
        progress: Told of better plans and bounds.
        deadline: When the answer is due; by default the request's time limit from now.
        run: The solver, prepared for the problem; by default it is loaded.

    Returns:
        What the solver claims, and who it is.
    """
    deadline = Deadline(request.time_limit_s) if deadline is None else deadline
    entry, why = SOLVERS.find(request.solver).chosen(compiled.problem)
    start = time.perf_counter()
    tell = None if progress is None else watching(compiled, progress, start)
    left_s = deadline.before(_reserve_s(request, deadline)).left_s()
    run = entry.load() if run is None else run
    if request.solver == "auto" and entry.name != "exact":
        run = started(run)
    outcome = solve_in_order(compiled, run, Effort(request.gap, left_s, request.node_limit, progress=tell))
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
