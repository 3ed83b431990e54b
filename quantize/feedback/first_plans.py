"""The plans that a search begins with, which its answer is never worse than."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from allocator import Allocation, Fault, InvalidInputError, Profile, Request
from allocator.answer.solve import run_solver, solve_request
from allocator.knapsack.compile import compile_problem
from allocator.knapsack.problem import IntArray
from quantize.feedback.refined import Origin, Trial
from quantize.feedback.resources import budgets_on_measured, corrected


def first_plans(
    profile: Profile, request: Request, trials: Sequence[Trial]
) -> Iterator[tuple[Origin, IntArray]]:
    """Give one plan after the other; each is measured before the next is asked for.

    Args:
        profile: The tables as they were given.
        trials: What was measured by then.

    Yields:
        Where a plan comes from, and its (U,) options. The solver's plan comes first, then, where measurements tell
        what a plan takes, the one that takes least: it tells a table's scale from its constant. ``uniform`` and
        ``greedy`` follow, under the tables as they are corrected by then.

    Raises:
        InvalidInputError: No plan keeps the budgets, and no measurement can show that one does.
    """
    rows = budgets_on_measured(profile, request)
    start = solved(profile, request)
    if start is not None:
        yield "start", start
    elif not rows:
        raise InvalidInputError(Fault("/budgets", unachievable(solve_request(profile, request))))
    for row in rows:
        if trials and getattr(trials[0].measurement, row.name) is None:
            continue
        least = request.model_copy(update={"objective": row.name, "budgets": {}, "caution": 0.0})
        plan = solved(profile, least)
        if plan is not None:
            yield "lightest", plan
    baselines: tuple[Origin, ...] = (
        ("uniform", "greedy") if start is not None else ("start", "uniform", "greedy")
    )
    for origin in baselines:
        solver = request.solver if origin == "start" else origin
        plan = solved(corrected(profile, request, trials), request.model_copy(update={"solver": solver}))
        if plan is not None:
            yield origin, plan


def solved(profile: Profile, request: Request) -> IntArray | None:
    """Solve a request.

    Returns:
        (U,) the options of the plan, None where there is none.
    """
    choice: IntArray | None = run_solver(compile_problem(profile, request), request)[0].choice
    return choice


def unachievable(allocation: Allocation) -> str:
    """Say why there is no plan.

    Returns:
        One sentence, with what plans reach of each budget.
    """
    spans = "; ".join(
        f"{name}: asked for at most {reach.limit:g}, plans reach {reach.least:g} to {reach.most:g}"
        for name, reach in allocation.achievable.items()
        if reach.limit is not None
    )
    return f"no plan keeps every budget; {spans}" if spans else f"no plan: {allocation.advice}"
