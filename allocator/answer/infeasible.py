"""What an infeasible request could have asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from allocator.contract.allocation import Reach
from allocator.contract.status import Status
from allocator.knapsack.compile import Compiled, limits_of
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.problem import FloatArray, Problem
from allocator.knapsack.tables import find_table, values_of
from allocator.solvers.exact import search as exact
from allocator.solvers.exact.strategy import (
    MeetInTheMiddle,
    Nodes,
    States,
    Strategy,
    WholeCosts,
    WithoutIdleSides,
)
from allocator.solvers.outcome import Effort

_Field: TypeAlias = Literal["least_with_others", "most_with_others", "nearest_below", "nearest_above"]

#: Sums that lie close together are hard to tell apart; beyond this an amount is given as a bound.
_STEPS = Strategy(
    one_limit=(
        MeetInTheMiddle(2_000),
        States(3_000),
        WholeCosts(),
        MeetInTheMiddle(20_000),
        States(300_000),
        Nodes(500),
    ),
    several_limits=(WithoutIdleSides(), MeetInTheMiddle(300_000), States(500), Nodes(500), States(50_000)),
)


def achievable(compiled: Compiled, deadline: Deadline) -> dict[str, Reach]:
    """Find what plans can reach of each budget and limit, alone and while the others hold.

    Args:
        compiled: The infeasible problem.
        deadline: When to go on with bounds that need no search.

    Returns:
        Name to range.
    """
    return {row.name: _reach(compiled, row, deadline) for row in compiled.rows}


def _reach(compiled: Compiled, row: Constraint, deadline: Deadline) -> Reach:
    if row.peak:
        return _peak_reach(compiled, row)
    problem = compiled.problem
    spend = _spend(compiled, row)  # (U, O)
    least = float(np.where(problem.available, spend, np.inf).min(axis=1).sum())
    most = float(np.where(problem.available, spend, -np.inf).max(axis=1).sum())
    search = _Search(compiled, row, spend, deadline)
    found = {
        "least_with_others": search.extreme(1.0, least, row_sides=()),
        "most_with_others": search.extreme(-1.0, most, row_sides=()),
    }
    low, high = found["least_with_others"], found["most_with_others"]
    # Where all that can be reached lies on one side of what was asked, its end is the nearest.
    asked = _asked(row)
    if low is not None and high is not None:
        if low.amount > asked[1]:
            found["nearest_above"] = low
        elif high.amount < asked[0]:
            found["nearest_below"] = high
        else:
            found["nearest_above"] = (
                search.extreme(1.0, least, row_sides=(-1.0,)) if row.high is not None else None
            )
            found["nearest_below"] = (
                search.extreme(-1.0, most, row_sides=(1.0,)) if row.low is not None else None
            )
    return _reported(row, least, most, found)


def _asked(row: Constraint) -> tuple[float, float]:
    low = -np.inf if row.low is None else row.low - row.constant
    return low, np.inf if row.high is None else row.high - row.constant


def _spend(compiled: Compiled, row: Constraint) -> FloatArray:
    for index, (other, sign) in enumerate(compiled.sides):
        if other.scope == row.scope:
            spend: FloatArray = sign * compiled.problem.spend[index]
            return spend
    raise AssertionError(row.name)


@dataclass(frozen=True)
class _Amount:
    """An amount without the row's constant; a bound where it was not proved to be reached."""

    amount: float
    proved: bool


@dataclass(frozen=True, eq=False)
class _Search:
    compiled: Compiled
    row: Constraint
    spend: FloatArray  # (U, O)
    deadline: Deadline

    def extreme(self, sign: float, alone: float, row_sides: tuple[float, ...]) -> _Amount | None:
        # The least amount (the most for -1) while all other rows hold, and some sides of this one.
        if self.deadline.passed():
            return _Amount(alone, proved=False)
        spend, limit = limits_of(self.compiled, without=self.row, but=row_sides)
        problem: Problem = replace(
            self.compiled.problem, cost=sign * self.spend, spend=spend, limit=limit, demand=None
        )
        outcome = exact.solve(problem, Effort(time_limit_s=self.deadline.left_s()), _STEPS)
        if outcome.status is Status.INFEASIBLE:
            return None
        if outcome.status is Status.OPTIMAL and outcome.choice is not None:
            return _Amount(sign * problem.objective(outcome.choice), proved=True)
        bound = sign * outcome.bound if np.isfinite(outcome.bound) else alone
        return _Amount(max(bound, alone) if sign > 0 else min(bound, alone), proved=False)


def _peak_reach(compiled: Compiled, row: Constraint) -> Reach:
    assert row.table is not None
    values = values_of(find_table(compiled.profile, row.table))[list(row.layers)]  # (L', F)
    outside = np.ones(values.shape[1], dtype=bool)
    outside[list(row.formats)] = False
    values[:, outside] = 0.0  # other formats add nothing
    least = float(np.where(np.isnan(values), np.inf, values).min(axis=1).max())
    most = float(np.where(np.isnan(values), 0.0, values).max())
    # What a peak has to be does not depend on sums unless there are some.
    proved = all(other.peak for other in compiled.rows)
    found = {
        "least_with_others": _Amount(least, proved),
        "most_with_others": _Amount(most, proved),
        "nearest_above": _Amount(least, proved) if least > _asked(row)[1] else None,
    }
    return _reported(row, least, most, found)


def _reported(row: Constraint, least: float, most: float, found: dict[str, _Amount | None]) -> Reach:
    def shown(name: _Field) -> float | None:
        item = found.get(name)
        return None if item is None else row.reported(item.amount + row.constant)

    bounds: list[str] = [name for name, item in found.items() if item is not None and not item.proved]
    return Reach.model_validate(
        {
            "least": row.reported(least + row.constant),
            "most": row.reported(most + row.constant),
            "least_with_others": shown("least_with_others"),
            "most_with_others": shown("most_with_others"),
            "nearest_below": shown("nearest_below"),
            "nearest_above": shown("nearest_above"),
            "bounds": tuple(bounds),
            "limit": row.limit,
            "at_least": row.at_least,
            "unit": row.unit,
        }
    )
