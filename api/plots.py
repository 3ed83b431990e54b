"""Pictures of answers, as matplotlib axes: for notebooks, the command line and documents alike.

Colours are from the Okabe-Ito palette; markers and dashes tell series apart in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator import Allocation, Frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"color": "#999999", "marker": "s", "linestyle": "none", "markersize": 8},
    "greedy": {"color": "#E69F00", "marker": "^", "linestyle": "none", "markersize": 8},
    "exact": {"color": "#0072B2", "marker": "o", "linestyle": "none", "markersize": 5},
    "supported": {"color": "#0072B2", "linestyle": "-", "drawstyle": "steps-post", "alpha": 0.6},
}
_BYTES = {"byte": (1e6, "MB")}


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
    """
    if axes is None:
        axes = _new_axes()
    scale, unit = _BYTES.get(front.unit, (1.0, front.unit))
    axes.plot(front.spend / scale, front.objective, label="supported plans", **STYLES["supported"])
    for method, plans in {**(others or {}), "exact": front.exact}.items():
        points = [
            (plan.usage[front.resource].used / scale, plan.objective)
            for plan in plans
            if plan.objective is not None
        ]
        if points:
            label = "exact plans" if method == "exact" else method
            axes.plot(*zip(*sorted(points), strict=True), label=label, **STYLES.get(method, {"marker": "x"}))
    knee = front.spend[front.knee] / scale, front.objective[front.knee]
    axes.plot(*knee, "*", color="#D55E00", markersize=14, linestyle="none", label="knee")
    if float(np.min(front.objective)) > 0:
        axes.set_yscale("log")
    axes.set_xlabel(f"{front.resource} ({unit})" if unit else front.resource)
    axes.set_ylabel(f"{front.objective_name} ({'higher' if front.maximise else 'lower'} is better)")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    return axes


def save(axes: Axes, path: Path) -> None:
    """Write the figure that axes are in.

    Args:
        axes: The axes.
        path: File to write; its ending says what: PNG, SVG or PDF.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=150)


def _new_axes() -> Axes:
    # No pyplot: it would keep every figure alive and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()
