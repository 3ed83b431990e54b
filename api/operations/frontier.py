"""The trade-off between the objective and a resource, as JSON holds it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from allocator import Frontier, Profile, Request, frontier, sweep
from allocator.contract.request import Amount
from allocator.contract.schema import Name
from allocator.contract.versions import installed_version
from allocator.knapsack.tables import WEIGHT_BYTES
from allocator.solvers import Deadline
from api.operations.body import pointing_into_body
from api.operations.example_profile import TINY_PROFILE
from api.operations.operation import Operation, sharing
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
    """Return a front."""
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


_EXAMPLES: dict[str, Any] = {
    "supported plans": {
        "summary": "Every plan on the hull of bytes against KL divergence",
        "value": {"profile": TINY_PROFILE},
    },
    "exact points": {
        "summary": "Proved plans at three sizes, and what simple rules reach there",
        "value": {"profile": TINY_PROFILE, "points": 3, "baselines": ["uniform", "greedy"]},
    },
    "two budgets": {
        "summary": "Proved plans at sizes of one's own",
        "value": {"profile": TINY_PROFILE, "resource": "effective_bits", "points": [5, "6.5"]},
    },
}

OPERATION = Operation(
    path="/frontiers",
    tag="planning",
    summary="Show the whole trade-off",
    description=(
        "Find every plan on the convex hull of the trade-off between the objective and a resource.\n"
        "\n"
        "Budgets and limits hold for the exact points that `points` asks for; supported plans cannot keep them, "
        "so they are\n"
        "allowed with `points` only."
    ),
    request=FrontierRequest,
    answer=FrontierAnswer,
    compute=trade_off,
    examples=_EXAMPLES,
)
