"""The trade-off between the objective and a resource, as JSON holds it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from allocator import Allocation, Frontier, Profile, Request, frontier, sweep
from allocator.request import Amount
from allocator.schema import Name, Strict
from allocator.tables import WEIGHT_BYTES
from allocator.versions import installed_version
from api.operations.body import pointing_into_body
from api.wire import ProfileRequest

#: Exact points of one front; each is a solve and a whole plan in the answer.
MAX_POINTS = 64


class FrontierRequest(ProfileRequest):
    """A profile, what is asked of it, and what is traded against the objective.

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


class Reached(Strict):
    """What a method reaches under a budget.

    Attributes:
        budget: The most that may be spent.
        spend: What its plan spends.
        objective: Its objective.
    """

    budget: float
    spend: float
    objective: float


class FrontierAnswer(Strict):
    """Supported plans from the thriftiest to the best, and proved plans at budgets that were asked for.

    Supported plans are optimal for what they spend. They come as the thriftiest plan and changes of single layers:
    the plan after n steps is ``start`` with all changes whose ``step`` is at most n, in their order.

    Attributes:
        objective_name: What is optimised.
        maximise: Whether higher is better.
        resource: What is spent.
        unit: Its unit.
        layers: Layer names.
        formats: Format names.
        start: For each layer, the index of its format in the thriftiest plan.
        step: For each change, at which step it happens, from 1, rising.
        layer: For each change, the index of the layer.
        format: For each change, the index of the format that the layer changes to.
        spend: Spend after each number of steps, from 0.
        objective: Objective after each number of steps.
        price: What a unit of spend buys in each step, falling.
        knee: Number of steps to the plan where the front bends most.
        exact: Proved plans at the budgets that were asked for.
        baselines: Method to what it reaches under the same budgets.
        profile_sha256: The profile.
        version: Version of bitalloc.
    """

    objective_name: str
    maximise: bool
    resource: str
    unit: str
    layers: tuple[str, ...]
    formats: tuple[str, ...]
    start: tuple[int, ...]
    step: tuple[int, ...]
    layer: tuple[int, ...]
    format: tuple[int, ...]
    spend: tuple[float, ...]
    objective: tuple[float, ...]
    price: tuple[float, ...]
    knee: int
    exact: tuple[Allocation, ...] = ()
    baselines: dict[str, tuple[Reached, ...]] = {}
    profile_sha256: str
    version: str


def trade_off(profile: Profile, request: Request, asked: FrontierRequest) -> FrontierAnswer:
    """Compute a front.

    Args:
        profile: The profile.
        request: Objective, pins, limits, solver.
        asked: Resource, points, baselines.

    Returns:
        The front.
    """
    with pointing_into_body():
        points = () if asked.points == 0 else asked.points
        front = frontier(profile, asked.resource, points, **request.model_dump())
        reached = {
            method: _reached(profile, request.model_copy(update={"solver": method}), front)
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


def _reached(profile: Profile, request: Request, front: Frontier) -> tuple[Reached, ...]:
    limits = [
        usage.limit
        for plan in front.exact
        if (usage := plan.usage.get(front.resource)) is not None and usage.limit is not None
    ]
    plans = sweep(profile, request, [{front.resource: limit} for limit in limits])
    return tuple(
        Reached(budget=limit, spend=plan.usage[front.resource].used, objective=plan.objective)
        for limit, plan in zip(limits, plans, strict=True)
        if plan.objective is not None
    )
