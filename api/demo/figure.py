"""The picture of the demo: size against measured distance, three methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allocator import Profile, solve
from api.demo.report import Report, Row
from bitalloc.plots.canvas import BLUE, GREEN, STYLES, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METHODS = ("uniform", "greedy", "bitalloc")
_CURVE_POINTS = 60


def draw_frontier(report: Report, profile: Profile, path: Path) -> None:
    """Draw bytes against measured distance, and what the table predicts in between.

    Args:
        profile: The profile they were planned from.
    """
    axes = new_axes()
    _predicted(axes, profile)
    for method in _METHODS:
        rows = [row for row in report.rows if row.method == method and row.backend == "torchao"]
        axes.plot(*_points(rows), label=method, markersize=7, **STYLES[method])
    packed = [row for row in report.rows if row.backend == "onnxruntime"]
    axes.plot(
        *_points(packed),
        "D",
        color=GREEN,
        fillstyle="none",
        markersize=9,
        label="bitalloc, ONNX Runtime 2/4/8",
    )
    _label_budgets(axes, report.rows)
    axes.set_yscale("log")
    axes.set_xlabel("stored bytes (MB)")
    axes.set_ylabel("measured embedding distance (mean 1 − cosine)")
    axes.set_title(f"{report.model}: size against measured distance")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    save(axes, path)


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    ordered = sorted(rows, key=lambda row: row.weight_bytes)
    return [row.weight_bytes / 1e6 for row in ordered], [row.distance for row in ordered]


def _predicted(axes: Axes, profile: Profile) -> None:
    table = profile.resources["weight_bytes"]
    columns = np.sort(np.array(table.values, dtype=float).sum(axis=0) + table.constant)  # (F,)
    least, most = columns[0], columns[-2]  # up to the widest integer format
    sizes, costs = [], []
    for step in range(_CURVE_POINTS):
        budget = least * (most / least) ** (step / (_CURVE_POINTS - 1))
        plan = solve(profile, objective="embedding_distance", budgets={"weight_bytes": float(budget)})
        assert plan.objective is not None
        sizes.append(plan.usage["weight_bytes"].used / 1e6)
        costs.append(plan.objective)
    axes.plot(sizes, costs, color=BLUE, alpha=0.3, linewidth=4, label="bitalloc, predicted by the table")


def _label_budgets(axes: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        if row.method == "bitalloc" and row.backend == "torchao":
            axes.annotate(
                f"{row.budget_bits:g} bits",
                (row.weight_bytes / 1e6, row.distance),
                textcoords="offset points",
                xytext=(-6, -14),
                ha="right",
                fontsize=9,
            )
