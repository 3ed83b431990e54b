"""Which model a checkpoint holds, by the weights of some of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from allocator import ModelIdentity
from quantize.checkpoints.config import read_config
from quantize.checkpoints.safetensors import load_weight, stored_weights
from quantize.identity import identity_of_weights

#: Architecture, and the planned weights; None where the model lacks one of the layers.
Found: TypeAlias = tuple[str, Iterable[NDArray[np.float32]]] | None


def identity_of_folder(folder: Path, layers: Iterable[str]) -> ModelIdentity | None:
    """Digest some weights of a checkpoint.

    Args:
        folder: Folder with ``*.safetensors``.

    Returns:
        The identity; None where the checkpoint lacks one of the layers.

    Raises:
        InvalidInputError: There is no checkpoint, or a weight cannot be read.
    """
    found = weights_of_folder(folder, layers)
    return None if found is None else identity_of_weights(*found)


def weights_of_folder(folder: str | Path, layers: Iterable[str]) -> Found:
    """Find some weights of a checkpoint, to be read one by one.

    Args:
        folder: Folder with ``*.safetensors``.

    Returns:
        Architecture and weights; None where the checkpoint lacks one of the layers.
    """
    weights = stored_weights(Path(folder))
    names = list(layers)
    if any(name not in weights for name in names):
        return None
    return _architecture(Path(folder)), (load_weight(weights[name]) for name in names)


def _architecture(folder: Path) -> str:
    said = read_config(folder, required=False).get("architectures")
    return str(said[0]) if isinstance(said, list) and said else folder.name
