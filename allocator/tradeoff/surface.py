"""The trade-off between an objective and two resources: a grid of exact solves without the points that others beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from allocator.contract.allocation import Allocation
from allocator.contract.errors import Fault, InvalidInputError
from allocator.contract.frames import frame_of
from allocator.contract.profile import Profile, ProfileSource, load_profile
from allocator.contract.request import Request, RequestFields, make_request
from allocator.contract.status import Status
from allocator.knapsack.constraints import resolve_limits
from allocator.knapsack.problem import BoolArray, FloatArray
from allocator.knapsack.tables import resolve_objectives
from allocator.tradeoff.frontier import frontier
from allocator.tradeoff.sweep import evenly_spaced, sweep


@dataclass(frozen=True, eq=False)
class Surface:
    """Proved plans under pairs of budgets.

    Attributes:
        resources: The two resources.
        points: Plans that no other one beats in both resources and the objective, in the order of the first resource.
        budgets: The pair of budgets behind each point.
        impossible: Pairs that no plan keeps, which lie below the surface.
        unproved: Pairs whose plan was not proved in the time limit; it is among the points if nothing beats it.
    """

    resources: tuple[str, str]
    points: tuple[Allocation, ...]
    budgets: tuple[tuple[float, float], ...]
    impossible: tuple[tuple[float, float], ...]
    unproved: tuple[tuple[float, float], ...]

    def to_frame(self) -> Any:  # noqa: ANN401 - pandas is optional
        """The points as a pandas data frame.

        Returns:
            A frame with the index ``point`` and what each point spends of the two resources, its objective and status.
        """
        columns: dict[str, object] = {
            name: [plan.usage[name].used for plan in self.points] for name in self.resources
        }
        columns |= {"objective": [plan.objective for plan in self.points]}
        columns |= {"status": [plan.status.value for plan in self.points]}
        return frame_of("point", range(len(self.points)), columns)


def surface(
    profile: ProfileSource,
    resources: tuple[str, str] = ("weight_bytes", "latency_us"),
    points: tuple[int, int] = (10, 10),
    **fields: Unpack[RequestFields],
) -> Surface:
    """Solve exactly on a grid over two resources.

    Each axis runs from the least that a plan spends of the resource to what the best plan spends without a budget.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        resources: The two resources, or costs.
        points: Number of budgets on each axis.
        **fields: Other fields of :class:`~allocator.contract.request.Request`; they hold for every point, and
            ``time_limit_s`` is for each.

    Returns:
        The surface.

    Raises:
        InvalidInputError: Profile or request cannot be used, or the resources are not two different ones.
        MissingPackageError: The solver needs a package that is not installed.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up"}, {"name": "down"}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]]}},
        ...     "resources": {"bytes": {"values": [[50, 100], [50, 100]]}, "us": {"values": [[5, 5], [3, 7]]}},
        ... }
        >>> front = surface(profile, ("bytes", "us"), points=(3, 3))
        >>> [(plan.usage["bytes"].used, plan.usage["us"].used, round(plan.objective, 9)) for plan in front.points]
        [(100.0, 8.0, 0.8), (150.0, 8.0, 0.4), (200.0, 12.0, 0.2)]
    """
    if len(set(resources)) != 2:
        raise InvalidInputError(Fault("/resources", f"expected two different resources, got {resources!r}"))
    if min(points) < 2:
        raise InvalidInputError(Fault("/points", f"expected at least 2 budgets on each axis, got {points!r}"))
    loaded, request = load_profile(profile), make_request(fields)
    first, second = (
        _axis(loaded, request, name, count) for name, count in zip(resources, points, strict=True)
    )
    pairs = [(one, two) for one in first for two in second]
    asked = [dict(zip(resources, pair, strict=True)) for pair in pairs]
    answers = list(zip(pairs, sweep(loaded, request, asked), strict=True))
    found = [(pair, answer) for pair, answer in answers if answer.assignment is not None]
    sign = -1.0 if resolve_objectives(loaded, request)[0].maximise else 1.0
    kept = _unbeaten(np.array([_coordinates(answer, resources, sign) for _, answer in found]))
    return Surface(
        resources=resources,
        points=tuple(answer for (_, answer), keep in zip(found, kept, strict=True) if keep),
        budgets=tuple(pair for (pair, _), keep in zip(found, kept, strict=True) if keep),
        impossible=tuple(pair for pair, answer in answers if answer.status is Status.INFEASIBLE),
        unproved=tuple(
            pair for pair, answer in answers if answer.status not in {Status.OPTIMAL, Status.INFEASIBLE}
        ),
    )


def _axis(profile: Profile, request: Request, resource: str, count: int) -> Sequence[float]:
    free = request.model_copy(update={"budgets": {}, "limits": ()})
    front = frontier(profile, resource, **free.model_dump())
    (row,) = resolve_limits(profile, request.model_copy(update={"budgets": {resource: 1}, "limits": ()}))
    whole = row.whole and row.ratio == 1
    return evenly_spaced(float(front.spend[0]), float(front.spend[-1]), count, whole=whole)


def _coordinates(answer: Allocation, resources: tuple[str, str], sign: float) -> tuple[float, ...]:
    assert answer.objective is not None
    return (*(answer.usage[name].used for name in resources), sign * answer.objective)


def _unbeaten(points: FloatArray) -> BoolArray:
    # (N, 3), lower is better in each; of equal points the first stays.
    kept = np.ones(len(points), dtype=bool)
    for at, point in enumerate(points):
        as_good = (points <= point).all(axis=1)
        better = as_good & ((points < point).any(axis=1) | (np.arange(len(points)) < at))
        kept[at] = not better.any()
    return kept
