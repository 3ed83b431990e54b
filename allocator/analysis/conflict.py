"""Why nothing works: amounts that would have to give way, and demands that cannot all be kept.

The set is irreducible, found by the deletion filter: what is not needed for the conflict is left out one by one.

Source: J. Chinneck and E. Dravnieks, "Locating minimal infeasible constraint sets in linear programs", ORSA Journal on
Computing 3(2), 1991.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from allocator.analysis.explanation import Conflict
from allocator.contract.allocation import Reach
from allocator.contract.errors import pointer
from allocator.contract.profile import Profile
from allocator.contract.request import Request
from allocator.contract.status import Status
from allocator.knapsack.compile import compile_problem
from allocator.knapsack.constraints import EFFECTIVE_BITS
from allocator.knapsack.deadline import Deadline
from allocator.knapsack.tables import combines_by_max, find_table
from allocator.solvers.exact import search as exact
from allocator.solvers.outcome import Effort

_Item = tuple[str, str | int]


def find_conflict(
    profile: Profile, request: Request, achievable: Mapping[str, Reach], deadline: Deadline | None = None
) -> Conflict:
    """Find what makes a request infeasible.

    Args:
        achievable: What plans can reach of each of its budgets and limits.
        deadline: When to stop; by default the request's time limit from now.

    Returns:
        The conflict.
    """
    deadline = Deadline(request.time_limit_s) if deadline is None else deadline
    together = list(_items(request))
    tried = 0
    while tried < len(together) and not deadline.passed():
        others = together[:tried] + together[tried + 1 :]
        if _infeasible(profile, _only(request, others), deadline):
            together = others
        else:
            tried += 1
    achievable = {
        name: _proved_peak(profile, request, name, reach, deadline) for name, reach in achievable.items()
    }
    helpful = sorted(
        ((change, name) for name, reach in achievable.items() if (change := _change(reach)) is not None),
    )
    return Conflict(
        relaxations={name: achievable[name] for _, name in helpful},
        together=tuple(pointer(item) for item in together),
        minimal=tried == len(together),
    )


def _items(request: Request) -> Iterator[_Item]:
    # Leaving out pins first keeps the budgets that people asked for in the set.
    for field in ("forbid", "allow", "pin"):
        yield from ((field, pattern) for pattern in getattr(request, field))
    yield from (("limits", at) for at in range(len(request.limits)))
    yield from (("budgets", name) for name in request.budgets)


def _only(request: Request, items: Sequence[_Item]) -> Request:
    kept = set(items)
    fields: dict[str, object] = {
        field: {key: value for key, value in getattr(request, field).items() if (field, key) in kept}
        for field in ("forbid", "allow", "pin", "budgets")
    }
    limits = tuple(limit for at, limit in enumerate(request.limits) if ("limits", at) in kept)
    return request.model_copy(update={**fields, "limits": limits})


def _infeasible(profile: Profile, request: Request, deadline: Deadline) -> bool:
    return _status(profile, request, deadline) is Status.INFEASIBLE


def _status(profile: Profile, request: Request, deadline: Deadline) -> Status:
    problem = compile_problem(profile, request).problem
    free = replace(problem, cost=np.zeros_like(problem.cost))
    return exact.solve(free, Effort(time_limit_s=deadline.left_s())).status


def _proved_peak(profile: Profile, request: Request, name: str, reach: Reach, deadline: Deadline) -> Reach:
    # What a peak has to be at least is a bound while there are sums; where all else can be kept with it, it is enough.
    if reach.nearest_above is None or reach.bounds == () or deadline.passed():
        return reach
    table = find_table(profile, name) if name in request.budgets and name != EFFECTIVE_BITS else None
    if table is None or not combines_by_max(table):
        return reach
    wider = request.model_copy(update={"budgets": {**request.budgets, name: reach.nearest_above}})
    if _status(profile, wider, deadline) is not Status.OPTIMAL:
        return reach
    return reach.model_copy(update={"bounds": ()})


def _change(reach: Reach) -> float | None:
    # How far the amount has to give way, relative to what was asked; None where that alone is not known to help.
    sides = (
        (reach.limit, reach.nearest_above, "nearest_above"),
        (reach.at_least, reach.nearest_below, "nearest_below"),
    )
    changes = [
        abs(enough - asked) / (max(abs(asked), abs(enough)) or 1.0)
        for asked, enough, name in sides
        if asked is not None and enough is not None and name not in reach.bounds
    ]
    return min(changes, default=None)
