"""What an infeasible request could have asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from allocator.allocation import Reach
from allocator.compile import Compiled
from allocator.problem import FloatArray, Problem
from allocator.profile import CostTable, Profile, ResourceTable
from allocator.solvers import exact
from allocator.solvers.outcome import Effort
from allocator.tables import Budget, combines_by_max, constant_of, find_table


def achievable(profile: Profile, compiled: Compiled, time_limit_s: float | None) -> dict[str, Reach]:
    """Find what plans can reach of each budget, alone and while the others hold.

    Args:
        profile: The tables.
        compiled: The infeasible problem.
        time_limit_s: Seconds for each of the extra solves, one per budget.

    Returns:
        Budget name to its range.
    """
    return {budget.name: _reach(profile, compiled, budget, time_limit_s) for budget in compiled.budgets}


def _reach(profile: Profile, compiled: Compiled, budget: Budget, time_limit_s: float | None) -> Reach:
    table = find_table(profile, budget.table)
    values = np.array(table.values, dtype=float)  # (L, F)
    free = compiled.problem.available[compiled.unit_of_layer]  # (L, F)
    low, high = np.where(free, values, np.inf).min(axis=1), np.where(free, values, -np.inf).max(axis=1)
    combine = np.max if combines_by_max(table) else np.sum
    least, most = float(combine(low)), float(combine(high))
    best = least if combines_by_max(table) else _best_with_others(compiled, budget, time_limit_s)
    return Reach(
        least=_reported(budget, table, least),
        most=_reported(budget, table, most),
        limit=budget.limit * budget.per_unit,
        best_with_others=None if best is None else _reported(budget, table, best),
        unit=budget.unit,
    )


def _reported(budget: Budget, table: CostTable | ResourceTable, amount: float) -> float:
    return (amount + constant_of(table)) * budget.per_unit


def _best_with_others(compiled: Compiled, budget: Budget, time_limit_s: float | None) -> float | None:
    problem, row = compiled.problem, compiled.tables.index(budget.table)
    others: Problem = replace(
        problem,
        cost=problem.spend[row],
        spend=np.delete(problem.spend, row, axis=0),
        limit=np.delete(problem.limit, row),
    )
    choice = exact.solve(others, Effort(time_limit_s=time_limit_s)).choice
    if choice is None:
        return None
    used: FloatArray = problem.used(choice)
    return float(-used[row] if budget.at_least else used[row])
