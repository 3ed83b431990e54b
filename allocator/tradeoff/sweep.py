"""The same request under many budgets: what does not depend on the amounts is done once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, Unpack

from allocator.answer.solve import SolveProgress, solve_compiled
from allocator.contract.allocation import Allocation
from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.profile import Profile, ProfileSource, load_profile
from allocator.contract.request import Amount, Request, SharedFields, make_request
from allocator.knapsack.compile import compile_problem, with_rows
from allocator.knapsack.constraints import resolve_limits
from allocator.knapsack.deadline import Deadline
from allocator.solvers import SOLVERS

Budgets = Mapping[str, Amount]


class Planner(Protocol):
    """Solves one request after the other."""

    def __call__(self, asked: Request, progress: Callable[[SolveProgress], None] | None = None) -> Allocation:
        """Solve a request; ``progress`` is told of better plans and bounds."""
        ...


def solve_many(
    profile: ProfileSource, budgets: Iterable[Budgets], **fields: Unpack[SharedFields]
) -> tuple[Allocation, ...]:
    """Find the best plan under each of several sets of budgets, each proved like a single one.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        budgets: For each plan its budgets, like the field ``budgets`` of a request.
        **fields: Other fields of :class:`~allocator.contract.request.Request`; ``time_limit_s`` is for each plan.

    Returns:
        One allocation for each set of budgets, in order.

    Raises:
        InvalidInputError: Profile, request or budgets cannot be used; names every offending field.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up"}, {"name": "down"}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]]}},
        ...     "resources": {"bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> [plan.usage["bytes"].used for plan in solve_many(profile, [{"bytes": 120}, {"bytes": 180}])]
        [100.0, 150.0]
    """
    loaded, request = load_profile(profile), make_request(fields)
    return tuple(sweep(loaded, request, budgets))


def sweep(profile: Profile, request: Request, budgets: Iterable[Budgets]) -> Iterator[Allocation]:
    """Solve a request under one set of budgets after the other, so that callers can show them as they come.

    Args:
        request: The request; its own budgets hold too, where a set does not name the same.

    Yields:
        One allocation for each set.

    Raises:
        InvalidInputError: The request or a set does not fit the profile; sets are pointed at by their index.
        MissingPackageError: The solver needs a package that is not installed.
        CertificateError: The solver's plan contradicts the tables.
    """
    SOLVERS.find(request.solver)
    requests = [_with_budgets(profile, request, item, at) for at, item in enumerate(budgets)]
    plan: Planner | None = None
    for asked in requests:
        if plan is None:
            plan = planner(profile, asked)
        yield plan(asked)


def _with_budgets(profile: Profile, request: Request, budgets: Budgets, at: int) -> Request:
    try:
        asked = make_request(request.model_dump() | {"budgets": {**request.budgets, **budgets}})
        resolve_limits(profile, asked)
    except InvalidInputError as error:
        where = pointer(("budgets", at))
        faults = (Fault(fault.pointer.replace("/budgets", where, 1), fault.detail) for fault in error.faults)
        raise InvalidInputError(*faults) from error
    return asked


def planner(profile: Profile, first: Request) -> Planner:
    """Do once what requests about a profile share.

    Args:
        first: One of them; the others may differ in budgets, gap and time limit.

    Returns:
        Solves such requests, each as if it were alone.

    Raises:
        InvalidInputError: The request does not fit the profile.
    """
    compiled = compile_problem(profile, first)
    entry, _ = SOLVERS.find(first.solver).chosen(compiled.problem)
    run = entry.prepare(compiled.problem) if len(compiled.objectives) == 1 else None

    def plan(asked: Request, progress: Callable[[SolveProgress], None] | None = None) -> Allocation:
        deadline = Deadline(asked.time_limit_s)
        limited = with_rows(compiled, resolve_limits(profile, asked))
        if limited is None:
            return solve_compiled(compile_problem(profile, asked), asked, progress, deadline)
        return solve_compiled(limited, asked, progress, deadline, run)

    return plan


def evenly_spaced(low: float, high: float, count: int, *, whole: bool) -> Sequence[float]:
    """Amounts from one to another at equal distances.

    Args:
        low: First amount.
        high: Last amount.
        count: How many, at least 1; a single one is the last.
        whole: Whether to round them down to integers.

    Returns:
        Rising amounts without repeats.

    Example:
        >>> evenly_spaced(0, 10, 4, whole=True)
        [0.0, 3.0, 6.0, 10.0]
    """
    steps = max(count - 1, 1)
    amounts = [low + (high - low) * at / steps for at in range(count)] if count > 1 else [high]
    amounts[-1] = high
    return sorted({float(int(amount)) if whole else amount for amount in amounts})
