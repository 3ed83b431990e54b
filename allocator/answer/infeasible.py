"""What an infeasible request could have asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from allocator.contract.allocation import Reach
from allocator.knapsack.compile import Compiled
from allocator.knapsack.constraints import Row
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, Problem
from allocator.knapsack.tables import find_table, values_of
from allocator.solvers.exact import search as exact
from allocator.solvers.outcome import Effort


def achievable(compiled: Compiled, time_limit_s: float | None) -> dict[str, Reach]:
    """Find what plans can reach of each budget and limit, alone and while the others hold.

    Args:
        compiled: The infeasible problem.
        time_limit_s: Seconds for all extra solves together, up to two for each budget or limit.

    Returns:
        Name to range.
    """
    deadline = Deadline(time_limit_s)
    return {row.name: _reach(compiled, row, deadline) for row in compiled.rows}


def _reach(compiled: Compiled, row: Row, deadline: Deadline) -> Reach:
    if row.peak:
        return _peak_reach(compiled, row)
    spend = _spend(compiled, row)  # (U, O)
    free = compiled.problem.available
    least = float(np.where(free, spend, np.inf).min(axis=1).sum())
    most = float(np.where(free, spend, -np.inf).max(axis=1).sum())
    low, high = (_extreme(compiled, row, sign * spend, deadline) for sign in (1.0, -1.0))
    return _reported(row, least, most, low, None if high is None else -high)


def _spend(compiled: Compiled, row: Row) -> FloatArray:
    for index, (other, sign) in enumerate(compiled.sides):
        if other.scope == row.scope:
            spend: FloatArray = sign * compiled.problem.spend[index]
            return spend
    raise AssertionError(row.name)


def _extreme(compiled: Compiled, row: Row, spend: FloatArray, deadline: Deadline) -> float | None:
    problem = compiled.problem
    others = np.array([other.scope != row.scope for other, _ in compiled.sides], dtype=bool)
    relaxed: Problem = replace(problem, cost=spend, spend=problem.spend[others], limit=problem.limit[others])
    choice = exact.solve(relaxed, Effort(time_limit_s=deadline.left_s())).choice
    return None if choice is None else relaxed.objective(choice)


def _peak_reach(compiled: Compiled, row: Row) -> Reach:
    assert row.table is not None
    values = values_of(find_table(compiled.profile, row.table))[list(row.layers)]  # (L', F)
    outside = np.ones(values.shape[1], dtype=bool)
    outside[list(row.formats)] = False
    values[:, outside] = 0.0  # other formats add nothing
    least = float(np.where(np.isnan(values), np.inf, values).min(axis=1).max())
    most = float(np.where(np.isnan(values), 0.0, values).max())
    return _reported(row, least, most, least, most)


def _reported(row: Row, least: float, most: float, low: float | None, high: float | None) -> Reach:
    def shown(amount: float | None) -> float | None:
        return None if amount is None else row.reported(amount + row.constant)

    return Reach(
        least=row.reported(least + row.constant),
        most=row.reported(most + row.constant),
        least_with_others=shown(low),
        most_with_others=shown(high),
        limit=row.limit,
        at_least=row.at_least,
        unit=row.unit,
    )
