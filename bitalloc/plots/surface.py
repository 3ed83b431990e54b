"""Two budgets: the surface of plans that no other one beats, and which budget holds each of them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator import Allocation, Fault, InvalidInputError, Surface
from bitalloc.plots.canvas import labelled, new_axes, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = ("s", "^", "o", "P")


def plot_surface(surface: Surface, axes: Axes | None = None) -> Axes:
    """Draw a surface from above: a marker for each plan at what it spends, shaded by its objective.

    Args:
        surface: From :func:`~allocator.tradeoff.surface.surface`.
        axes: Where to draw; a new figure when absent.

    Returns:
        The axes. The shape of a marker says which budget binds: the one whose shadow price is positive.

    Raises:
        InvalidInputError: The surface has no plans.
        MissingPackageError: matplotlib is not installed.
    """
    from matplotlib.colors import LogNorm, Normalize

    if not surface.points:
        raise InvalidInputError(Fault("/surface", "no plan keeps any of the budgets"))
    axes = new_axes(8.0, 5.5) if axes is None else axes
    spent = np.array([[plan.usage[name].used for name in surface.resources] for plan in surface.points])
    objective = np.array([plan.objective for plan in surface.points], dtype=float)  # (N,)
    units = [
        readable(surface.points[0].usage[name].unit, spent[:, at])
        for at, name in enumerate(surface.resources)
    ]
    span = (LogNorm if objective.min() > 0 else Normalize)(objective.min(), objective.max())
    groups = [binding(plan, surface.resources) for plan in surface.points]
    first, second = surface.resources
    shapes = dict(zip((first, second, f"{first} and {second}", "neither"), _MARKERS, strict=True))
    for name, marker in shapes.items():
        mine = np.array([group == name for group in groups])
        if mine.any():
            dots = axes.scatter(
                spent[mine, 0] / units[0][0],
                spent[mine, 1] / units[1][0],
                c=objective[mine],
                norm=span,
                cmap="cividis",
                marker=marker,
                s=60,
                edgecolors="black",
                linewidths=0.6,
            )
            label = f"{name} bind{'' if ' and ' in name else 's'}"
            axes.plot([], [], marker, color="white", markeredgecolor="black", markersize=8, label=label)
    if surface.impossible:
        pairs = np.array(surface.impossible) / [units[0][0], units[1][0]]
        axes.plot(*pairs.T, "x", color="black", markersize=5, label="no plan keeps both")
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.colorbar(dots, ax=axes, label=surface.points[0].objective_name)
    axes.set_xlabel(labelled(first, units[0][1]))
    axes.set_ylabel(labelled(second, units[1][1]))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), ncols=2, frameon=False)
    return axes


def binding(plan: Allocation, resources: tuple[str, str]) -> str:
    """Say which of two budgets holds a plan back.

    Args:
        resources: The two budgets.

    Returns:
        The name of one, ``… and …``, or ``neither``.
    """
    held = [name for name in resources if (plan.usage[name].shadow_price or 0.0) > 0]
    return " and ".join(held) or "neither"
