"""Numbers of weights for scores that leave them out: budgets in effective bits need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from allocator import Fault, InvalidInputError
from quantize.checkpoints.matrices import stored_matrices
from quantize.imports.members import count, members_of, weights_of
from quantize.imports.scores import Scores, some


def with_sizes(scores: Scores, model: Path, names: Mapping[str, Sequence[str]] | None = None) -> Scores:
    """Fill in the numbers of weights from a checkpoint.

    Args:
        scores: Scores; numbers that they hold are kept.
        model: Folder with the checkpoint.
        names: The tool's own name → layers of the checkpoint.

    Returns:
        The scores; rows that are not in the checkpoint are in the notes.

    Raises:
        InvalidInputError: There is no checkpoint, or none of the rows is in it.
    """
    members = members_of(stored_matrices(model))
    layers = {
        layer: count(weights_of(layer, members, names)) or None if number is None else number
        for layer, number in scores.layers.items()
    }
    missing = [layer for layer, number in layers.items() if number is None]
    if not missing:
        return replace(scores, layers=layers)
    if len(missing) == len(layers):
        detail = (
            f"none of the rows is in the checkpoint: {some(missing)}; give --names, or leave the model out"
        )
        raise InvalidInputError(Fault("/model", detail))
    note = f"not in the checkpoint, so without a number of weights: {some(missing)}"
    return replace(scores, layers=layers, notes={**scores.notes, "/layers": note})
