"""The trade-off between the objective and a resource, as JSON holds it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from allocator import Frontier, Profile, Request, frontier, sweep
from allocator.contract.request import Amount
from allocator.contract.schema import Name
from allocator.contract.versions import installed_version
from allocator.knapsack.tables import WEIGHT_BYTES
from allocator.solvers import Deadline
from api.operations.body import pointing_into_body
from api.operations.time_limit import sharing
from bitalloc.operations import FrontierAnswer, Reached
from bitalloc.wire import ProfileRequest

#: Exact points of one front; each is a solve and a whole plan in the answer.
MAX_POINTS = 64


class FrontierRequest(ProfileRequest):
    """A profile, what is asked of it, and what is traded against the objective.

    The time limit holds for the whole answer: each point has its share, and baselines get what is left.

    Attributes:
        resource: What is traded: a resource, a cost, or ``effective_bits``.
        points: Exact plans: how many at equal distances over the whole range, or at which budgets.
        baselines: Methods to run at the budgets of the exact plans, for a picture.
    """

    resource: Name = WEIGHT_BYTES
    points: (
        Annotated[int, Field(strict=True, ge=0, le=MAX_POINTS)]
        | Annotated[tuple[Amount, ...], Field(max_length=MAX_POINTS)]
    ) = 0
    baselines: Annotated[tuple[Name, ...], Field(max_length=4)] = ()


def trade_off(profile: Profile, request: Request, asked: FrontierRequest) -> FrontierAnswer:
    """Compute a front.

    Args:
        profile: The profile.
        request: Objective, pins, limits, solver.
        asked: Resource, points, baselines.

    Returns:
        The front.
    """
    deadline = Deadline(request.time_limit_s)
    points = () if asked.points == 0 else asked.points
    count = points if isinstance(points, int) else max(len(points), 1)
    each = sharing(request, count)
    with pointing_into_body():
        front = frontier(profile, asked.resource, points, **each.model_dump())
        reached = {
            method: _reached(profile, each.model_copy(update={"solver": method}), front, deadline)
            for method in asked.baselines
        }
    return described(front, profile, reached)


def described(
    front: Frontier, profile: Profile, baselines: dict[str, tuple[Reached, ...]] | None = None
) -> FrontierAnswer:
    """A front in plain numbers.

    Args:
        front: The front.
        profile: The profile.
        baselines: Method to what it reaches.

    Returns:
        The answer.
    """
    plain = {
        name: value.tolist() if hasattr(value, "tolist") else value for name, value in vars(front).items()
    }
    return FrontierAnswer.model_validate(
        {
            **plain,
            "baselines": baselines or {},
            "profile_sha256": profile.digest(),
            "version": installed_version("bitalloc"),
        }
    )


def _reached(profile: Profile, request: Request, front: Frontier, deadline: Deadline) -> tuple[Reached, ...]:
    limits = [
        usage.limit
        for plan in front.exact
        if (usage := plan.usage.get(front.resource)) is not None and usage.limit is not None
    ]
    plans = sweep(profile, request, [{front.resource: limit} for limit in limits])
    found = []
    for limit in limits:
        if deadline.passed():
            break
        plan = next(plans)
        if plan.objective is not None:
            spend = plan.usage[front.resource].used
            found.append(Reached(budget=limit, spend=spend, objective=plan.objective))
    return tuple(found)
