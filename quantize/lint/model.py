"""What a lint knows of a model: names and shapes of its layers, and which share a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allocator import Profile
from quantize.checkpoints.config import read_config
from quantize.checkpoints.safetensors import stored_weights


@dataclass(frozen=True)
class Model:
    """A model without its weights.

    Attributes:
        shapes: Layer → shape of its weight; None where it is not known.
        tied: Groups of layers that share one weight.
        kind: What transformers calls the architecture (``model_type``); None where it is not known.
    """

    shapes: Mapping[str, tuple[int, ...] | None]
    tied: tuple[tuple[str, ...], ...] = ()
    kind: str | None = None


def model_of_profile(profile: Profile) -> Model:
    """Return the weights of a profile by name; shapes are not in it."""
    return Model({layer.name: None for layer in profile.layers if layer.kind == "weight"})


def model_of_folder(folder: Path) -> Model:
    """Read names and shapes from the headers of a checkpoint, and ties from its ``config.json``.

    Args:
        folder: As for :func:`quantize.checkpoints.safetensors.open_checkpoint`.

    Returns:
        Every weight of two and more dimensions.
    """
    shapes: dict[str, tuple[int, ...] | None] = {
        name: tensor.shape for name, tensor in stored_weights(folder).items()
    }
    return _tied(shapes, read_config(folder, required=False))


def _tied(shapes: dict[str, tuple[int, ...] | None], config: dict[str, object]) -> Model:
    kind = config.get("model_type")
    kind = kind if isinstance(kind, str) else None
    embedding = next((name for name in shapes if name.rpartition(".")[2] == "embed_tokens"), None)
    if not config.get("tie_word_embeddings") or embedding is None:
        return Model(shapes, kind=kind)
    # A tied head has no weight of its own in the file.
    return Model({**shapes, "lm_head": shapes[embedding]}, ((embedding, "lm_head"),), kind)
