"""Plans that are proved to be the best and still predicted to be of no use."""

from __future__ import annotations

import math

from allocator.answer.notes.planned import Planned
from allocator.contract.note import Note


def loss_notes(planned: Planned) -> tuple[Note, ...]:
    """Warn where a table predicts more than it states as tolerable.

    Returns:
        A warning for each such table, whether or not it is the objective.
    """
    found = []
    for name, table in planned.profile.costs.items():
        if table.tolerable is None:
            continue
        loss = float(planned.entries(name, planned.columns).sum())
        sign = -1.0 if table.better == "higher" else 1.0
        if not math.isfinite(loss) or sign * loss <= sign * table.tolerable:
            continue
        text = (
            f"by {name!r} this plan comes to {loss:.3g}, and {table.tolerable:g} is the most that is of use "
            f"({table.meaning or 'no meaning given'}): proved to be the best plan, and likely a broken model; give "
            "it more bytes, or a better rounding"
        )
        found.append(Note(about="loss", severity="warning", text=text))
    return tuple(found)
