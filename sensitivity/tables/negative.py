"""Cost tables with entries below zero, said in the provenance of a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from allocator import CostTable
from allocator.contract.errors import pointer

_NAMED = 5


def negative_notes(costs: Mapping[str, CostTable], layers: Sequence[str]) -> dict[str, str]:
    """Warn of layers that a table has gain from rounding.

    Args:
        costs: The tables; those where higher is better are left alone.
        layers: (L,) names of the rows.

    Returns:
        Pointer to the table → warning, for each table with negative entries.

    Example:
        >>> table = CostTable(values=((-1.0, 0.0), (2.0, 1.0)))
        >>> negative_notes({"trace": table}, ["up", "down"])["/costs/trace"][:59]
        'warning: 1 of 2 rows have entries below zero (up): noise, o'
    """
    notes = {}
    for name, table in costs.items():
        below = [
            layer
            for layer, row in zip(layers, table.values, strict=True)
            if any(value is not None and value < 0 for value in row)
        ]
        if below and table.better == "lower":
            more = f" and {len(below) - _NAMED} more" if len(below) > _NAMED else ""
            notes[pointer(("costs", name))] = (
                f"warning: {len(below)} of {len(layers)} rows have entries below zero ({', '.join(below[:_NAMED])}"
                f"{more}): noise, or a curvature that is not one; a plan that they carry is too good to be true"
            )
    return notes
