"""Plans: which layer has which format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from allocator import Allocation, Fault, InvalidInputError, Profile
from bitalloc.plots.canvas import new_axes, shades, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED_LAYERS = 60
_WORDS_BELOW = 40


def plot_plan(profile: Profile, plan: Allocation, axes: Axes | None = None) -> Axes:
    """Draw a plan as a strip of layers × formats: one filled cell in each column.

    Args:
        profile: The profile it was planned from.
        axes: Where to draw; a new figure when absent.

    Returns:
        The axes; layers from left to right, the widest format on top.

    Raises:
        InvalidInputError: The answer has no plan, or is another profile's.
        MissingPackageError: matplotlib is not installed.

    Example:
        >>> from allocator import load_profile, solve
        >>> from api.openapi.examples import TINY_PROFILE
        >>> profile = load_profile(TINY_PROFILE)
        >>> axes = plot_plan(profile, solve(profile, budgets={"effective_bits": 6.5}))
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['int4-g64', 'int8-g64']
    """
    chosen = _columns_of(profile, plan)  # (L,)
    order = _by_width(profile)
    rank = np.argsort(order)[chosen]  # (L,) 0 for the narrowest format
    axes = new_axes(max(6.0, min(14.0, 0.24 * len(chosen) + 2)), 4.4) if axes is None else axes
    colors = np.array(shades(len(order)))  # (F, 3)
    cells = np.full((len(order), len(chosen), 3), 0.96)  # (F, L, 3)
    cells[rank, np.arange(len(chosen))] = colors[rank] * 0.9
    axes.imshow(cells, aspect="auto", origin="lower", interpolation="nearest")
    _grid(axes, len(order), len(chosen))
    names = list(profile.formats)
    axes.set_yticks(range(len(order)), [names[column] for column in order])
    _name_layers(axes, profile)
    axes.set_ylabel("format")
    axes.set_title(_caption(plan), fontsize=10)
    return axes


def plot_plans(profile: Profile, plans: Mapping[str, Allocation], axes: Axes | None = None) -> Axes:
    """Draw several plans below each other, one line each, coloured by format.

    Args:
        profile: The profile they were planned from.
        plans: Name to plan, from top to bottom.
        axes: Where to draw; a new figure when absent.

    Returns:
        The axes; up to 40 layers also have their bits written into the cells.

    Raises:
        InvalidInputError: There are no plans, an answer has none, or is another profile's.
        MissingPackageError: matplotlib is not installed.
    """
    from matplotlib.patches import Patch

    if not plans:
        raise InvalidInputError(Fault("/plans", "expected at least one plan, got none"))
    order = _by_width(profile)
    ranks = np.argsort(order)[[_columns_of(profile, plan) for plan in plans.values()]]  # (P, L)
    colors = np.array(shades(len(order)))  # (F, 3)
    if axes is None:
        axes = new_axes(max(6.0, min(14.0, 0.24 * ranks.shape[1] + 3)), 2.2 + 0.35 * len(plans))
    axes.imshow(colors[ranks], aspect="auto", interpolation="nearest")
    _grid(axes, *ranks.shape)
    formats = list(profile.formats.items())
    if ranks.shape[1] <= _WORDS_BELOW:
        for (row, column), rank in np.ndenumerate(ranks):
            ink = "white" if rank < len(order) / 2 else "black"
            text = f"{formats[order[rank]][1].weight_bits:g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_yticks(range(len(plans)), list(plans))
    _name_layers(axes, profile)
    patches = [
        Patch(facecolor=tuple(color), edgecolor="black", linewidth=0.4, label=formats[column][0])
        for column, color in zip(order, colors, strict=True)
    ]
    axes.legend(handles=patches[::-1], title="format", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return axes


def _columns_of(profile: Profile, plan: Allocation) -> NDArray[np.intp]:
    # (L,) index of each layer's format.
    if plan.assignment is None:
        raise InvalidInputError(Fault("/plan", f"there is no plan to draw: {plan.advice}"))
    names = list(profile.formats)
    try:
        return np.array([names.index(plan.assignment[layer.name]) for layer in profile.layers])
    except (KeyError, ValueError) as error:
        detail = f"expected a plan of this profile; it has no layer or format {error.args[0]!r}"
        raise InvalidInputError(Fault("/plan", detail)) from error


def _by_width(profile: Profile) -> list[int]:
    # Formats from narrow to wide; equals in the order of the profile.
    bits = [item.weight_bits for item in profile.formats.values()]
    return sorted(range(len(bits)), key=lambda column: (bits[column], column))


def _grid(axes: Axes, rows: int, columns: int) -> None:
    if columns <= 4 * _NAMED_LAYERS:  # thinner cells would drown in their borders
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def _name_layers(axes: Axes, profile: Profile) -> None:
    names = shortened([layer.name for layer in profile.layers])
    if len(names) <= _NAMED_LAYERS:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_xlabel("layer")
    else:
        axes.set_xlabel("layer, in the order of the profile (number)")


def _caption(plan: Allocation) -> str:
    value = "" if plan.objective is None else f" {plan.objective:.4g}"
    gap = "" if plan.gap is None else f", gap {plan.gap:.2g}"
    spent = "".join(
        f"; {name} {usage.used:,.6g}{f' of {usage.limit:,.6g}' if usage.limit is not None else ''}"
        f"{f' {usage.unit}' if usage.unit else ''}"
        for name, usage in plan.usage.items()
    )
    return f"{plan.objective_name}{value} ({plan.status}{gap}){spent}"
