"""Fronts: what each amount of a resource buys, for one table or for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from allocator import Allocation, Fault, Frontier, InvalidInputError, Profile, total
from allocator.contract.errors import unknown
from allocator.knapsack.tables import WEIGHT_BYTES
from bitalloc.plots.canvas import BLUE, STEPS, VERMILION, labelled, new_axes, readable, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_frontier(
    front: Frontier, others: Mapping[str, Sequence[Allocation]] | None = None, axes: Axes | None = None
) -> Axes:
    """Draw a frontier: supported plans as steps, exact ones as points, the knee, and other methods' plans.

    Args:
        front: The frontier.
        others: Method to its plans under the same budget; ``uniform`` and ``greedy`` have styles of their own.
        axes: Where to draw; a new figure when absent.

    Returns:
        The axes. The objective is on a logarithmic scale where it is positive throughout.

    Raises:
        MissingPackageError: matplotlib is not installed.

    Example:
        >>> from allocator import frontier
        >>> from api.openapi.examples import TINY_PROFILE
        >>> axes = plot_frontier(frontier(TINY_PROFILE))
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('weight_bytes (kB)', 'kl (lower is better)')
    """
    axes = new_axes() if axes is None else axes
    scale, unit = readable(front.unit, front.spend)
    steps = {**STEPS, "color": BLUE, "alpha": 0.6}
    axes.plot(front.spend / scale, front.objective, label="supported plans", **steps)
    styles = styled(others or ())
    for method, plans in (others or {}).items():
        points = _points(front.resource, plans)
        if points:
            dots = {**styles[method], "linestyle": "none", "markersize": 8}
            axes.plot(*_columns(points, scale), label=method, **dots)
    if exact := _points(front.resource, front.exact):
        axes.plot(*_columns(exact, scale), "o", color=BLUE, markersize=5, label="exact plans")
    knee = front.spend[front.knee] / scale, front.objective[front.knee]
    axes.plot(*knee, "*", color=VERMILION, markersize=14, linestyle="none", label="knee")
    return _finish(axes, front.objective, labelled(front.resource, unit), _better(front))


def plot_fronts(
    profile: Profile,
    plans: Mapping[str, Sequence[Allocation]],
    cost: str,
    resource: str = WEIGHT_BYTES,
    axes: Axes | None = None,
) -> Axes:
    """Draw the plans of several methods, or of several tables, all priced by one table.

    Objectives of different tables have different units; what their plans cost by the table that is believed can be
    compared.

    Args:
        profile: The profile they were planned from.
        plans: Name of a series to its plans; answers without a plan are left out.
        cost: The cost table that prices them.
        resource: The resource they spend.
        axes: Where to draw; a new figure when absent.

    Returns:
        The axes; one series of steps each, from small to large: between two plans, the smaller one is what there is.

    Raises:
        InvalidInputError: There is no such table.
        MissingPackageError: matplotlib is not installed.

    Example:
        >>> from allocator import load_profile, solve_many
        >>> from api.openapi.examples import TINY_PROFILE
        >>> profile = load_profile(TINY_PROFILE)
        >>> budgets = [{"weight_bytes": 5_000}, {"weight_bytes": 7_000}]
        >>> axes = plot_fronts(profile, {"exact": list(solve_many(profile, budgets))}, "kl")
        >>> [line.get_label() for line in axes.get_lines()]
        ['exact']
    """
    for name, tables, kind in (
        (cost, profile.costs, "cost table"),
        (resource, profile.resources, "resource"),
    ):
        if name not in tables:
            raise InvalidInputError(Fault(f"/{kind.split()[0]}", unknown(name, tables, kind)))
    axes = new_axes() if axes is None else axes
    series = {
        name: sorted(
            (total(profile, resource, plan.assignment), total(profile, cost, plan.assignment))
            for plan in made
            if plan.assignment is not None
        )
        for name, made in plans.items()
    }
    scale, unit = readable(
        profile.resources[resource].unit, [spent for points in series.values() for spent, _ in points]
    )
    for name, style in styled(series).items():
        if series[name]:
            axes.plot(*_columns(series[name], scale), label=name, markersize=6, **STEPS, **style)
    costs = np.array([value for points in series.values() for _, value in points])
    better = f"{cost} of the plan ({profile.costs[cost].better} is better)"
    return _finish(axes, costs, labelled(resource, unit), better)


def _points(resource: str, plans: Sequence[Allocation]) -> list[tuple[float, float]]:
    return sorted((plan.usage[resource].used, plan.objective) for plan in plans if plan.objective is not None)


def _columns(points: Sequence[tuple[float, float]], scale: float) -> tuple[list[float], list[float]]:
    return [spent / scale for spent, _ in points], [value for _, value in points]


def _better(front: Frontier) -> str:
    return f"{front.objective_name} ({'higher' if front.maximise else 'lower'} is better)"


def _finish(axes: Axes, values: np.typing.NDArray[np.float64], across: str, up: str) -> Axes:
    if values.size and float(np.min(values)) > 0:
        axes.set_yscale("log")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    return axes
