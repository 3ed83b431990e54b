"""Tables compared: what planning with each of them loses, by the table that is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator import Fault, InvalidInputError
from bitalloc.plots.canvas import new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from allocator.analysis.table_comparison import Agreement, Comparison


def plot_comparison(comparison: Comparison, axes: Axes | None = None) -> Axes:
    """Draw what the plans of each table lose, one line a table, one marker a budget.

    Args:
        comparison: From :func:`~allocator.analysis.table_comparison.compare_tables`.
        axes: Where to draw; a new figure when absent.

    Returns:
        The axes. The loss is in percent of what the reference's own plan costs; beside each table stands Kendall's τ
        with the reference, over the layers.

    Raises:
        InvalidInputError: No plan can be compared.
        MissingPackageError: matplotlib is not installed.
    """
    tables = [agreement.table for agreement in comparison.agreements]
    budgets = list(dict.fromkeys(_words(plan.budgets) for plan in comparison.plans))
    losses: dict[str, list[tuple[float, int]]] = {budget: [] for budget in budgets}
    for plan in comparison.plans:
        if plan.table in tables and plan.excess is not None:
            losses[_words(plan.budgets)].append((100 * plan.excess, tables.index(plan.table)))
    found = [loss for points in losses.values() for loss, _ in points]
    if not found:
        detail = "no table but the reference leads to a plan whose cost can be compared"
        raise InvalidInputError(Fault("/comparison", detail))
    axes = new_axes(9.0, 1.6 + 0.45 * len(tables)) if axes is None else axes
    shift = np.linspace(-0.2, 0.2, len(budgets)) if len(budgets) > 1 else np.zeros(1)
    for (budget, style), offset in zip(styled(budgets).items(), shift, strict=True):
        values = [loss for loss, _ in losses[budget]]
        lines = [line + float(offset) for _, line in losses[budget]]
        axes.plot(values, lines, label=budget, **{**style, "linestyle": "none"}, markersize=7)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(tables)), [_named(item) for item in comparison.agreements])
    axes.set_ylim(len(tables) - 0.5, -0.5)
    if max(found) > 50:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlim(1.3 * min(found) if min(found) < 0 else -0.2, 3 * max(found))
    axes.set_xlabel(f"{comparison.reference} of the plan above that of the best plan (%)")
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.legend(title="budget", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return axes


def _words(budgets: object) -> str:
    assert isinstance(budgets, dict)
    return ", ".join(f"{name} {value}" for name, value in budgets.items())


def _named(agreement: Agreement) -> str:
    tau = agreement.kendall_of_layers
    return agreement.table if tau is None else f"{agreement.table} (τ = {tau:.2f})"
