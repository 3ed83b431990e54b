"""Small checkpoints of random weights, by name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from quantize.checkpoints.safetensors import Tensor, write_tensors

EXPERTS = 2
#: A mixture as Qwen 3 stores it: every expert apart.
MIXTURE = {
    "model.embed_tokens": (64, 32),
    "lm_head": (64, 32),
    "model.layers.0.self_attn.q_proj": (32, 32),
    "model.layers.0.self_attn.o_proj": (32, 32),
    "model.layers.0.mlp.gate": (EXPERTS, 32),
    **{f"model.layers.0.mlp.experts.{index}.gate_proj": (64, 32) for index in range(EXPERTS)},
    **{f"model.layers.0.mlp.experts.{index}.up_proj": (64, 32) for index in range(EXPERTS)},
    **{f"model.layers.0.mlp.experts.{index}.down_proj": (32, 64) for index in range(EXPERTS)},
}
#: The same with all experts in one parameter, as newer releases of transformers store it.
STACKED = {
    "model.layers.0.self_attn.q_proj": (32, 32),
    "model.layers.0.mlp.experts.gate_up_proj": (EXPERTS, 128, 32),
    "model.layers.0.mlp.experts.down_proj": (EXPERTS, 32, 64),
}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight that a checkpoint below has under a name."""
    return np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)


def checkpoint(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """Write a checkpoint; three dimensions are a parameter of its own rather than a layer's weight."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name if len(shape) == 3 else f"{name}.weight": Tensor("F32", shape, weight(name, shape).tobytes())
        for name, shape in shapes.items()
    }
    write_tensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder
