"""Reading files that other tools wrote."""

from __future__ import annotations

import json

from quantize.exports import Reading, read

_PARTS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
LAYERS = [*(f"model.layers.{block}.{part}" for block in (0, 1) for part in _PARTS), "lm_head"]


def reading(target: str, document: object, layers: list[str] | None = LAYERS) -> Reading:
    """What a JSON document of another tool says about a small Llama."""
    return read(target, {"config.json": json.dumps(document)}, layers=layers)


def short(found: Reading) -> dict[str, str]:
    """Layers that are not left alone, by the end of their names."""
    return {
        layer.removeprefix("model.layers."): name
        for layer, name in found.assignment.items()
        if name != "fp16"
    }
