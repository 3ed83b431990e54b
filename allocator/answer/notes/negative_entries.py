"""Negative costs that carry a plan: rounding a layer cannot be relied on to improve the model."""

from __future__ import annotations

import numpy as np

from allocator.answer.notes.planned import Planned
from allocator.contract.note import Note

#: Share of a plan's costs, by size, from which on negative ones carry it.
_CARRIES = 0.01


def negative_notes(planned: Planned) -> tuple[Note, ...]:
    """Warn where the chosen entries of an objective are negative by more than a hundredth of all.

    Returns:
        A warning for each such table.
    """
    found = []
    for name in planned.objective_tables:
        if planned.profile.costs[name].better == "higher":
            continue
        chosen = planned.entries(name, planned.columns)
        below = chosen < 0
        weight = float(-chosen[below].sum())
        if weight <= _CARRIES * float(np.abs(chosen).sum()):
            continue
        text = (
            f"{int(below.sum())} of {len(chosen)} layers are planned by negative entries of {name!r}, {-weight:.4g} in "
            "all: noise, or a curvature that is not one; the objective is too good to be true, and the proof is of "
            "this table only (Gauss-Newton traces are never negative)"
        )
        found.append(Note(about="negative entries", severity="warning", text=text))
    return tuple(found)
