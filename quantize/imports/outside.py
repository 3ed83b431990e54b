"""What lies outside the scores of another tool, where the model is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from allocator import Fault, InvalidInputError, Profile
from quantize.checkpoints.identity import identity_of_folder
from quantize.checkpoints.matrices import stored_matrices
from quantize.checkpoints.outside import outside_of_folder, with_outside
from quantize.imports.members import layers_of, members_of
from quantize.imports.scores import some


def with_model(
    profile: Profile,
    folder: Path,
    members: Mapping[str, Sequence[str]],
    names: Mapping[str, Sequence[str]] | None = None,
) -> Profile:
    """Add what a checkpoint stores beside the layers that have scores, and which model it is.

    Args:
        profile: Made of scores.
        members: Row → layers of the checkpoint, where a row is several of them.
        names: The tool's own name → layers of the checkpoint, where its rule does not give them.

    Returns:
        The profile with ``outside`` and ``identity``; the constant of ``weight_bytes`` has the bytes outside.

    Raises:
        InvalidInputError: The checkpoint cannot be read, or has none of the layers.
    """
    rows = [layer.name for layer in profile.layers]
    known = members_of(stored_matrices(folder))
    found = {row: list(members.get(row) or layers_of(row, known, names)) for row in rows}
    strangers = [row for row, layers in found.items() if not layers]
    if len(strangers) == len(rows):
        detail = (
            f"none of the rows is in the checkpoint: {some(strangers)}; give --names, or leave the model out"
        )
        raise InvalidInputError(Fault("/model", detail))
    layers = [layer for of_row in found.values() for layer in of_row]
    outside = outside_of_folder(folder, [[layer] for layer in layers], otherwise="no scores in the file")
    update: dict[str, object] = {
        "outside": outside,
        "resources": with_outside(profile.resources, outside),
        "identity": identity_of_folder(folder, rows),
    }
    if strangers and profile.provenance is not None:
        note = (
            f"not in the checkpoint: {some(strangers)}; their weights, if it has them under other names, are counted "
            "a second time among what lies outside"
        )
        notes = {**profile.provenance.notes, "/outside": note}
        update["provenance"] = profile.provenance.model_copy(update={"notes": notes})
    return profile.model_copy(update=update)
