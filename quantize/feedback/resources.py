"""Budgets that hold for what was measured: tables corrected by the plans that were, and whether a plan fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from allocator import Profile, Request, total
from allocator.knapsack.compile import compile_problem
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.constraints import resolve_limits
from allocator.knapsack.problem import IntArray
from allocator.knapsack.tables import constant_of, values_of
from quantize.feedback.latency import line, with_line
from quantize.feedback.measurement import Measurement
from quantize.feedback.refined import Trial

#: Resources that a measurement may tell the truth about.
MEASURABLE = ("weight_bytes", "latency_us")
_APART = 0.05  # of what plans can spend


def budgets_on_measured(profile: Profile, request: Request) -> tuple[Constraint, ...]:
    """Return the rows of the budgets that measurements can check."""
    rows = resolve_limits(profile, request)
    return tuple(row for row in rows if row.name in request.budgets and row.name in MEASURABLE)


def corrected(given: Profile, request: Request, trials: Sequence[Trial]) -> Profile:
    """Make tables of resources agree with what plans measured.

    Args:
        given: The tables as they were given.
        request: The request; only tables with a budget are corrected.

    Returns:
        The profile; ``given`` itself where there is nothing to correct.
    """
    profile = given
    for row in budgets_on_measured(given, request):
        known = [
            (trial, amount)
            for trial in trials
            if (amount := getattr(trial.measurement, row.name)) is not None
        ]
        if not known:
            continue
        assert row.limit is not None
        table = given.resources[row.name]
        summed = [total(given, row.name, trial.assignment) - constant_of(table) for trial, _ in known]
        values = values_of(table)
        reach = float((np.nanmax(values, axis=1) - np.nanmin(values, axis=1)).sum())
        scale, constant = line(summed, [amount for _, amount in known], row.limit, _APART * reach)
        profile = with_line(profile, row.name, scale, constant)
    return profile


def fits(profile: Profile, request: Request, choice: IntArray, found: Measurement) -> bool:
    """Tell whether a measured plan keeps every budget.

    Args:
        profile: Tables, for limits on what was not measured.
        choice: (U,) the plan.

    Returns:
        True when it does.
    """
    rows = budgets_on_measured(profile, request)
    told = {row.name: amount for row in rows if (amount := getattr(found, row.name)) is not None}
    if any(row.broken(told[row.name]) for row in rows if row.name in told):
        return False
    compiled = compile_problem(profile, request)
    used = compiled.problem.used(choice)
    return all(
        row.name in told or amount <= limit
        for (row, _), amount, limit in zip(compiled.sides, used, compiled.problem.limit, strict=True)
    )
