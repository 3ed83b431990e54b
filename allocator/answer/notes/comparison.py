"""Tables that can only compare layers of one kind, used to compare all."""

from __future__ import annotations

import re

from allocator.answer.notes.planned import Planned
from allocator.contract.note import Note
from allocator.contract.profile import CostTable

#: Tables of profiles that do not say which rows can be compared.
_KNOWN = {"output_mse", "weight_error", "rounding_error", "imatrix_error"}
_NUMBER = re.compile(r"(?<![^.])\d+(?=\.)")


def comparison_notes(planned: Planned) -> tuple[Note, ...]:
    """Warn where an objective weighs kinds of layers against each other that its table cannot compare.

    Returns:
        A warning for each such table.
    """
    tables = [name for name in planned.objective_tables if _one_kind_only(name, planned.profile.costs[name])]
    if not tables:
        return ()
    free = planned.compiled.allowed.sum(axis=1) > 1
    kinds = {
        (kind_of_layer(layer.name), layer.parameters)
        for layer, open_ in zip(planned.profile.layers, free, strict=True)
        if open_
    }
    if len(kinds) < 2:
        return ()
    return tuple(
        Note(
            about="comparison",
            severity="warning",
            text=f"{name!r} compares layers of one kind only, and this plan weighs {len(kinds)} kinds against each "
            "other by it: it does not know what the model makes of a layer's error, and such plans have been far "
            "worse than uniform; weight it first (sensitivity.tables.compose), or plan by Gauss-Newton traces, "
            "'fisher' or a measured table",
        )
        for name in tables
    )


def kind_of_layer(name: str) -> str:
    """The place of a layer in its block, whatever the number of the block or expert.

    Returns:
        The name without its numbers, but for one at its end: that is a place in a sequence.

    Example:
        >>> kind_of_layer("model.layers.11.mlp.down_proj"), kind_of_layer("blocks.1.mlp.2")
        ('model.layers.#.mlp.down_proj', 'blocks.#.mlp.2')
    """
    return _NUMBER.sub("#", name)


def _one_kind_only(name: str, table: CostTable) -> bool:
    return table.comparable == "one_kind" or (table.comparable is None and name in _KNOWN)
