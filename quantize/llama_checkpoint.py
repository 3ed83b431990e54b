"""A Llama checkpoint as llama.cpp wants it: other names, other facts, and rows of queries and keys in another order.

The vocabulary is left out: the file takes and gives numbers of tokens. Source: llama.cpp, ``convert_hf_to_gguf.py``
(``LlamaModel``), and ``gguf.tensor_mapping``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.errors import pointer, require
from quantize.checkpoint import Stored, load_weight, stored_tensors
from quantize.rounding import Float32Array


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
        # transformers rotates the first half of a head against the second, llama.cpp neighbours.
        halves = weight.reshape(self.heads, 2, -1, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a Llama.

    Args:
        folder: The checkpoint.

    Returns:
        Its content.

    Raises:
        InvalidInputError: It cannot be read, is quantized, or is not a Llama as llama.cpp knows it.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        detail = f"expected a folder with config.json, got {str(folder)!r}: {error}"
        raise InvalidInputError(Fault("/model", detail)) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "llama":
        raise InvalidInputError(Fault("/model", f"expected a checkpoint of model_type 'llama', got {kind!r}"))
    scaling = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("rope_type", "default")
    if scaling != "default" or "quantization_config" in config:
        detail = f"expected full precision and plain rotary positions, got {scaling!r} ones or a quantized checkpoint"
        raise InvalidInputError(Fault("/model", detail))
    found: dict[str, Any] = config
    return found


def write_facts(writer: Any, config: Mapping[str, Any]) -> None:  # noqa: ANN401 - a gguf.GGUFWriter
    """Write what llama.cpp needs to know besides the weights.

    Args:
        writer: The file.
        config: ``config.json``.
    """
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")


def sources(folder: Path, config: Mapping[str, Any]) -> dict[str, Source]:
    """Find the place of every tensor.

    Args:
        folder: The checkpoint.
        config: Its ``config.json``.

    Returns:
        Name in the checkpoint → source.

    Raises:
        InvalidInputError: A tensor has no place in a Llama; every such one is named.
        MissingPackageError: gguf is not installed.
    """
    gguf = require("gguf", "gguf")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    turned = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    found, faults = {}, []
    for name, stored in stored_tensors(folder).items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if own is None:
            faults.append(Fault(pointer(("model", name)), "llama.cpp's Llama has no such tensor"))
            continue
        module = name.rpartition(".")[0].rpartition(".")[2]
        found[name] = Source(own, stored, turned.get(module, 0))
    if faults:
        raise InvalidInputError(*faults)
    return found
