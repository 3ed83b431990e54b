"""How sure a plan is: which layers would change their format if the table were measured again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from allocator import Fault, InvalidInputError, LayerStability, Stability
from bitalloc.plots.canvas import new_axes, shades, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "oooo", "++++")


def plot_stability(stability: Stability, layers: int = 25, axes: Axes | None = None) -> Axes:
    """Draw the shares of formats of the layers that are least sure, as bars from 0 to 100 %.

    Args:
        stability: From :func:`~allocator.analysis.stability.stability`.
        layers: Draw at most this many layers, the least sure on top; those that never change only where all are so.
        axes: Where to draw; a new figure when absent.

    Returns:
        The axes. Each bar begins with the format that the plan has; formats differ in shade and hatch.

    Raises:
        InvalidInputError: Fewer than one layer is asked for.
        MissingPackageError: matplotlib is not installed.
    """
    from matplotlib.patches import Patch

    if layers < 1:
        raise InvalidInputError(Fault("/layers", f"expected at least 1, got {layers}"))
    ranked = sorted(stability.layers, key=lambda row: (row.kept, -row.worth))
    unsure = [row for row in ranked if row.kept < 1][:layers] or ranked[:layers]
    short = dict(
        zip(
            (row.layer for row in stability.layers),
            shortened([row.layer for row in stability.layers]),
            strict=True,
        )
    )
    axes = new_axes(8.0, 1.8 + 0.26 * len(unsure)) if axes is None else axes
    formats = sorted({name for row in stability.layers for name in (row.format, *row.shares)}, key=_natural)
    looks = dict(zip(formats, shades(len(formats)), strict=True))
    for line, row in enumerate(unsure):
        start = 0.0
        for name, share in _ordered(row):
            axes.barh(
                line,
                100 * share,
                left=start,
                color=looks[name],
                hatch=_hatch(formats, name),
                edgecolor="white",
                linewidth=0.4,
            )
            start += 100 * share
    axes.set_yticks(range(len(unsure)), [f"{short[row.layer]} → {row.format}" for row in unsure], fontsize=8)
    axes.set_ylim(len(unsure) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel(
        f"share of {stability.resamples:,} resampled tables in which the layer has the format (%)"
    )
    axes.set_title(
        f"the whole plan stays in {stability.kept:.0%}; {sum(row.kept == 1 for row in stability.layers)} of "
        f"{len(stability.layers)} layers never change",
        fontsize=10,
    )
    patches = [
        Patch(facecolor=looks[name], hatch=_hatch(formats, name), edgecolor="white", label=name)
        for name in formats
        if any(name in row.shares for row in unsure)
    ]
    axes.legend(handles=patches, title="format", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return axes


def _natural(name: str) -> list[tuple[int, str]]:
    # int8 before int16.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _hatch(formats: Sequence[str], name: str) -> str:
    return _HATCHES[formats.index(name) % len(_HATCHES)]


def _ordered(row: LayerStability) -> list[tuple[str, float]]:
    return sorted(row.shares.items(), key=lambda item: (item[0] != row.format, -item[1]))
