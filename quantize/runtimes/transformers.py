"""transformers with the compressed-tensors package: Linear layers of 2 to 8 bits, computed in floating point.

Source: transformers 5, ``quantizers/quantizer_compressed_tensors.py``; compressed-tensors 0.19, whose loader expects
zero points in another shape than the one that the package packs. Nothing fuses: each Linear is a layer of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from quantize.formats import StorageFormat
from quantize.rounding.codes import is_sign
from quantize.runtimes.capabilities import CONVOLVED, Capabilities, Complaint, groups_divide

#: Architectures whose layers are no plain Linear there, or are given first values as they are made.
_OWN_LINEAR = frozenset({"falcon", "mamba", "falcon_mamba", "modernbert", "modernbert-decoder", "rwkv"})
_EXPERT = re.compile(r"(?:^|\.)experts\.\d+\.")
_LOOKED_UP = "transformers looks for the plain weight of an embedding and does not find it"
#: Why one symmetric bit cannot be stored.
HALF_STEP = (
    "one bit stands for −s and +s, half a step from zero, and compressed-tensors has whole zero points only"
)


def _matrices(fmt: StorageFormat) -> Complaint | None:
    if is_sign(fmt):
        return "error", HALF_STEP
    if fmt.floating or fmt.symmetric:
        return None
    return "error", "compressed-tensors packs zero points in another shape than the one that it loads"


def unloadable(kind: str | None, layers: Collection[str]) -> str | None:
    """Why no quantized weights of a model are loaded, if they are not.

    Args:
        kind: What transformers calls the architecture.
        layers: Names of its layers, as the checkpoint has them.

    Returns:
        The reason; None where they are.

    Example:
        >>> unloadable("llama", ["model.layers.0.mlp.up_proj"]) is None, unloadable("falcon", []) is None
        (True, False)
    """
    if kind in _OWN_LINEAR:
        return (
            f"transformers computes the layers of {kind} with code of its own, which looks for plain weights"
        )
    if any(_EXPERT.search(layer) for layer in layers):
        return (
            "transformers merges experts as it loads, and loses those of a checkpoint by compressed-tensors"
        )
    return None


TABLE = Capabilities(
    name="transformers",
    tested="transformers 5.17 with compressed-tensors 0.19",
    reads=frozenset({"compressed-tensors", "llm-compressor"}),
    formats={"matrix": _matrices, "head": _matrices},
    advice="choose a symmetric format of 2 bits or more",
    stays={"embedding": _LOOKED_UP, "convolution": CONVOLVED},
    limits=(groups_divide(),),
    unloadable=unloadable,
    columns=("int4-g32", "int4-g128", "int8", "fp16"),
    backend="compressed-tensors",
)
