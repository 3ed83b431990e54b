"""What lies outside the scores of another tool, where the model is given."""

from __future__ import annotations

from pathlib import Path

from allocator import Profile
from quantize.checkpoints.identity import identity_of_folder
from quantize.checkpoints.outside import outside_of_folder, with_outside


def with_model(profile: Profile, folder: Path) -> Profile:
    """Add what a checkpoint stores beside the layers that have scores, and which model it is.

    Args:
        profile: Made of scores.

    Returns:
        The profile with ``outside`` and ``identity``; the constant of ``weight_bytes`` has the bytes outside.

    Raises:
        InvalidInputError: The checkpoint cannot be read.
    """
    names = [layer.name for layer in profile.layers]
    outside = outside_of_folder(folder, [[name] for name in names], otherwise="no scores in the file")
    resources = with_outside(profile.resources, outside)
    identity = identity_of_folder(folder, names)
    return profile.model_copy(update={"outside": outside, "resources": resources, "identity": identity})
