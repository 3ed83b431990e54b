"""A checkpoint as llama.cpp wants it: other names, other facts, and with Llamas queries and keys in another order.

The vocabulary is in :mod:`quantize.backends.gguf.vocabulary`. To add an architecture, add a line to
:data:`ARCHITECTURES`. Source: llama.cpp, ``convert_hf_to_gguf.py``, and ``gguf.tensor_mapping``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, require, unknown
from quantize.backends.gguf.rotary_positions import base_of, head_width, settings_of
from quantize.checkpoints.config import read_config as _read
from quantize.checkpoints.config import require_original
from quantize.checkpoints.safetensors import Stored, load_weight, stored_tensors
from quantize.rounding.nearest import Float32Array


@dataclass(frozen=True)
class Architecture:
    """What llama.cpp knows a kind of model as.

    Attributes:
        name: Its name there.
        turned: Whether it rotates neighbours of a head, where transformers rotates the first half against the second.
    """

    name: str
    turned: bool


#: ``model_type`` of a checkpoint → architecture.
ARCHITECTURES = {
    "llama": Architecture("llama", turned=True),
    "mistral": Architecture("llama", turned=True),
    "qwen2": Architecture("qwen2", turned=False),
    "qwen3": Architecture("qwen3", turned=False),
}


@dataclass(frozen=True)
class Source:
    """A tensor of a checkpoint and its place in a GGUF file.

    Attributes:
        name: Name in the file.
        stored: Where its numbers are.
        heads: Heads whose rows change their order; 0 for none.
    """

    name: str
    stored: Stored
    heads: int = 0

    def load(self) -> Float32Array:
        """Read the tensor.

        Returns:
            Its numbers, rows in the order of llama.cpp.
        """
        weight = load_weight(self.stored)
        if not self.heads:
            return weight
        halves = weight.reshape(self.heads, 2, -1, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a decoder.

    Args:
        folder: The checkpoint.

    Returns:
        Its content.

    Raises:
        InvalidInputError: It cannot be read, is quantized, or is none of :data:`ARCHITECTURES` with plain rotary
            positions or those of Llama 3.
    """
    config = _read(folder)
    require_original(config, folder)
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise InvalidInputError(Fault("/model", unknown(str(kind), ARCHITECTURES, "model_type")))
    scaling = settings_of(config).get("rope_type", "default")
    if scaling not in ("default", "llama3"):
        detail = f"expected rotary positions that are 'default' or 'llama3', got {scaling!r} ones"
        raise InvalidInputError(Fault("/model", detail))
    return config


def write_facts(writer: Any, config: Mapping[str, Any]) -> None:  # noqa: ANN401 - a gguf.GGUFWriter
    """Write what llama.cpp needs to know besides the weights.

    Args:
        writer: The file.
        config: ``config.json``.
    """
    heads, width = config["num_attention_heads"], head_width(config)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(base_of(config))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(config["vocab_size"])


def sources(folder: Path, config: Mapping[str, Any]) -> dict[str, Source]:
    """Find the place of every tensor.

    Args:
        folder: The checkpoint.
        config: Its ``config.json``.

    Returns:
        Name in the checkpoint → source.

    Raises:
        InvalidInputError: A tensor has no place in the architecture; every such one is named.
        MissingPackageError: gguf is not installed.
    """
    gguf = require("gguf", "gguf")
    into = ARCHITECTURES[config["model_type"]]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[into.name.upper()], config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    keys = config.get("num_key_value_heads") or heads
    turned = {"q_proj": heads, "k_proj": keys} if into.turned else {}
    found, faults = {}, []
    for name, stored in stored_tensors(folder).items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if own is None:
            faults.append(Fault(pointer(("model", name)), f"llama.cpp's {into.name} has no such tensor"))
            continue
        module = name.rpartition(".")[0].rpartition(".")[2]
        found[name] = Source(own, stored, turned.get(module, 0))
    if faults:
        raise InvalidInputError(*faults)
    return found
