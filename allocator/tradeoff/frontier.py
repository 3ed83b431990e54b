r"""The whole trade-off between an objective and one resource: all supported plans from one pass, exact ones on request.

Supported plans lie on the lower convex hull of the trade-off; each is optimal for what it spends, which needs no
further proof. They come as the lightest plan and an ordered list of changes, each moving one unit, so that tens of
thousands of layers fit in a few megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from allocator.bounds.hull import Hull, build_hull
from allocator.contract.allocation import Allocation
from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.frames import frame_of_steps
from allocator.contract.profile import Profile, ProfileSource, load_profile
from allocator.contract.quantity import parse_quantity
from allocator.contract.request import Amount, Request, RequestFields, make_request
from allocator.knapsack.compile import Compiled, compile_problem
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.constraints import EFFECTIVE_BITS
from allocator.knapsack.deadline import stop_asked
from allocator.knapsack.problem import FloatArray, masked_spend
from allocator.knapsack.tables import WEIGHT_BYTES
from allocator.tradeoff.sweep import evenly_spaced, sweep


@dataclass(frozen=True, eq=False)
class Frontier:
    """Supported plans, from the lightest to the best that any budget buys.

    Attributes:
        objective_name: What is optimised.
        maximise: Whether higher is better.
        resource: What is spent.
        unit: Its unit.
        layers: Layer names.
        formats: Format names.
        start: (L,) format of each layer in the lightest plan.
        step: (C,) at which step each change happens, from 1, rising.
        layer: (C,) layer that changes.
        format: (C,) format that it changes to.
        spend: (N + 1,) spend after each number of steps.
        objective: (N + 1,) objective after each number of steps.
        price: (N,) what a unit of spend buys in each step, falling.
        knee: Number of steps to the plan at the knee, see :func:`knee`.
        exact: Proved plans at the budgets that were asked for.
    """

    objective_name: str
    maximise: bool
    resource: str
    unit: str
    layers: tuple[str, ...]
    formats: tuple[str, ...]
    start: NDArray[np.int16]
    step: NDArray[np.int32]
    layer: NDArray[np.int32]
    format: NDArray[np.int16]
    spend: FloatArray
    objective: FloatArray
    price: FloatArray
    knee: int
    exact: tuple[Allocation, ...] = ()

    def to_frame(self) -> Any:  # noqa: ANN401 - pandas is optional
        """The supported plans as a pandas data frame, see :func:`~allocator.contract.frames.frame_of_steps`.

        Returns:
            A frame with a row for each number of steps.
        """
        return frame_of_steps(self.spend, self.objective, self.price)


def frontier(
    profile: ProfileSource,
    resource: str = WEIGHT_BYTES,
    points: int | Sequence[Amount] = (),
    progress: Callable[[int, int], None] | None = None,
    **fields: Unpack[RequestFields],
) -> Frontier:
    """Compute the trade-off between the objective and a resource.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        resource: A resource or cost table, or ``effective_bits``.
        points: Budgets to solve exactly: a number of them at equal distances over the whole range, or amounts.
        progress: Told after every one of them how many of how many are solved.
        **fields: Other fields of :class:`~allocator.contract.request.Request`. Budgets and limits hold for the exact
            points; the supported plans cannot know them, so they are allowed with ``points`` only.

    Returns:
        The frontier.

    Raises:
        InvalidInputError: Profile or request cannot be used, or there are limits and no points.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up"}, {"name": "down"}],
        ...     "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]]}},
        ...     "resources": {"bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> front = frontier(profile, "bytes")
        >>> front.spend.tolist(), front.objective.round(9).tolist()
        ([100.0, 150.0, 200.0], [0.8, 0.4, 0.2])
        >>> plan_after(front, 1)
        {'up': 'int8', 'down': 'int4'}
    """
    loaded, request = load_profile(profile), make_request(fields)
    if (request.budgets or request.limits) and points == ():
        detail = "supported plans cannot keep other limits; ask for exact points too, which keep them"
        raise InvalidInputError(Fault("/points", detail))
    free = request.model_copy(update={"budgets": {resource: _far(resource)}, "limits": ()})
    compiled = _compiled(loaded, free, resource)
    hull = build_hull(compiled.problem)
    supported = _supported(compiled, hull)
    if points == ():
        return supported
    amounts = _amounts(compiled, points)
    exact = []
    for answer in sweep(loaded, request, [{resource: amount} for amount in amounts]):
        exact.append(answer)
        if progress is not None:
            progress(len(exact), len(amounts))
        if (stopped := stop_asked()) is not None and stopped():
            break
    return Frontier(**{**vars(supported), "exact": tuple(exact)})


def plan_after(front: Frontier, steps: int) -> dict[str, str]:
    """The supported plan after some steps.

    Args:
        steps: How many, from 0 to N.

    Returns:
        Layer name to format name.
    """
    chosen = front.start.copy()
    made = int(np.searchsorted(front.step, steps, side="right"))
    chosen[front.layer[:made]] = front.format[:made]  # of several changes of a layer the last one counts
    return {name: front.formats[column] for name, column in zip(front.layers, chosen.tolist(), strict=True)}


def steps_within(front: Frontier, budget: Amount) -> int | None:
    """Count the steps that a budget allows.

    Args:
        budget: The budget, a number in the unit of the resource or a text with a unit.

    Returns:
        Number of steps to the best supported plan within the budget; None where even the lightest spends more.

    Raises:
        ValueError: The budget cannot be read.
    """
    amount = parse_quantity(budget, front.unit)
    whole = bool((front.spend == np.rint(front.spend)).all())  # integers are compared exactly
    steps = int(np.searchsorted(front.spend, amount if whole else amount * (1 + 1e-12), side="right")) - 1
    return None if steps < 0 else steps


def knee(spend: FloatArray, objective: FloatArray) -> int:
    """Find where a front bends most: farthest from its chord, with both axes scaled to their range.

    Args:
        spend: (N,) rising.
        objective: (N,) convex and falling, or concave and rising.

    Returns:
        Index of the point; the first of equals, and 0 for fronts that do not bend.

    Source: V. Satopää et al., "Finding a 'Kneedle' in a Haystack", ICDCS workshops 2011, for the scaled chord.

    Example:
        >>> knee(np.array([0.0, 1.0, 2.0, 10.0]), np.array([9.0, 4.0, 1.0, 0.0]))
        2
    """
    across, down = np.ptp(spend), objective[-1] - objective[0]
    if not across or not down:
        return 0
    bend = np.abs((objective - objective[0]) / down - (spend - spend[0]) / across)
    return int((bend.round(12)).argmax())


def _far(resource: str) -> float:
    # A budget that rules nothing out; effective bits are multiplied by the number of weights.
    return 1e9 if resource == EFFECTIVE_BITS else 1e150


def _compiled(profile: Profile, request: Request, resource: str) -> Compiled:
    try:
        compiled = compile_problem(profile, request)
    except InvalidInputError as error:
        where = pointer(("budgets", resource))
        raise InvalidInputError(
            *(
                Fault("/resource" if fault.pointer == where else fault.pointer, fault.detail)
                for fault in error.faults
            )
        ) from error
    row = compiled.rows[0]
    if row.peak:
        raise InvalidInputError(
            Fault("/resource", f"{resource!r} combines by max; only sums have a frontier")
        )
    if row.low is not None:
        detail = f"higher is better for {resource!r}; make it the objective and trade it against a resource"
        raise InvalidInputError(Fault("/resource", detail))
    if len(compiled.objectives) > 1:
        raise InvalidInputError(Fault("/objective", "a frontier has one objective; weight several tables"))
    return compiled


def _supported(compiled: Compiled, hull: Hull) -> Frontier:
    profile, objective, row = compiled.profile, compiled.objectives[0], compiled.rows[0]
    merged = hull.start.copy()
    before, after = np.empty_like(hull.option), hull.option
    for at, (unit, option) in enumerate(zip(hull.unit.tolist(), hull.option.tolist(), strict=True)):
        before[at], merged[unit] = merged[unit], option
    step, layer = _members(compiled, hull)
    old = compiled.formats_of_option[layer, before[step]]
    new = compiled.formats_of_option[layer, after[step]]
    moved = old != new
    start = compiled.formats_of_option[
        np.arange(compiled.set_of_layer.size), hull.start[compiled.set_of_layer]
    ]
    spend = row.reported(hull.spend + row.constant)
    sign = -1.0 if objective.maximise else 1.0
    values = sign * hull.cost + objective.constant
    return Frontier(
        objective_name=objective.label,
        maximise=objective.maximise,
        resource=row.name,
        unit=row.unit,
        layers=tuple(item.name for item in profile.layers),
        formats=tuple(profile.formats),
        start=start.astype(np.int16),
        step=(step[moved] + 1).astype(np.int32),
        layer=layer[moved].astype(np.int32),
        format=new[moved].astype(np.int16),
        spend=spend,
        objective=values,
        price=hull.price / row.per_unit,
        knee=knee(spend, values),
    )


def _members(compiled: Compiled, hull: Hull) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # The layers of every step's unit, step by step.
    order = np.argsort(compiled.set_of_layer, kind="stable")
    sizes = np.bincount(compiled.set_of_layer, minlength=compiled.problem.units)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    counts = sizes[hull.unit]
    step = np.repeat(np.arange(hull.unit.size), counts)
    within = np.arange(step.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return step, order[first[hull.unit[step]] + within]


def _amounts(compiled: Compiled, points: int | Sequence[Amount]) -> Sequence[Amount]:
    if not isinstance(points, int):
        return points
    if points < 1:
        raise InvalidInputError(Fault("/points", f"expected at least 1 point, got {points}"))
    row: Constraint = compiled.rows[0]
    spend = masked_spend(compiled.problem)[0]
    low, high = spend.min(axis=1).sum(), _free_spend(compiled)
    return [
        row.reported(amount + row.constant)
        for amount in evenly_spaced(float(low), high, points, whole=row.whole and row.ratio == 1)
    ]


def _free_spend(compiled: Compiled) -> float:
    # What the best plan without a budget spends: more buys nothing.
    return float(build_hull(compiled.problem).spend[-1])
