"""What a lint knows of a model: names and shapes of its layers, and which share a weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allocator import Fault, InvalidInputError, Profile
from quantize.checkpoints.safetensors import stored_weights


@dataclass(frozen=True)
class Model:
    """A model without its weights.

    Attributes:
        shapes: Layer → shape of its weight; None where it is not known.
        tied: Groups of layers that share one weight.
    """

    shapes: Mapping[str, tuple[int, ...] | None]
    tied: tuple[tuple[str, ...], ...] = ()


def model_of_profile(profile: Profile) -> Model:
    """Take the layers of a profile; shapes are not in it.

    Args:
        profile: The profile.

    Returns:
        Names of its weights.
    """
    return Model({layer.name: None for layer in profile.layers if layer.kind == "weight"})


def model_of_folder(folder: Path) -> Model:
    """Read names and shapes from the headers of a checkpoint, and ties from its ``config.json``.

    Args:
        folder: Folder with ``*.safetensors``, or one such file.

    Returns:
        Every weight of two and more dimensions.

    Raises:
        InvalidInputError: There is no checkpoint, or it cannot be read.
    """
    shapes: dict[str, tuple[int, ...] | None] = {
        name: tensor.shape for name, tensor in stored_weights(folder).items()
    }
    return _tied(shapes, _config(folder))


def _config(folder: Path) -> dict[str, object]:
    path = (folder.parent if folder.is_file() else folder) / "config.json"
    try:
        config = json.loads(path.read_text("utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InvalidInputError(Fault("/model", f"cannot read {str(path)!r}: {error}")) from error
    return config if isinstance(config, dict) else {}


def _tied(shapes: dict[str, tuple[int, ...] | None], config: dict[str, object]) -> Model:
    embedding = next((name for name in shapes if name.rpartition(".")[2] == "embed_tokens"), None)
    if not config.get("tie_word_embeddings") or embedding is None:
        return Model(shapes)
    # A tied head has no weight of its own in the file.
    return Model({**shapes, "lm_head": shapes[embedding]}, ((embedding, "lm_head"),))
