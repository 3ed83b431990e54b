"""The profile of the examples in the OpenAPI document."""

from __future__ import annotations

from typing import Any

TINY_PROFILE: dict[str, Any] = {
    "model": "two-layer example",
    "formats": {
        "int4-g64": {"weight_bits": 4, "group_size": 64},
        "int8-g64": {"weight_bits": 8, "group_size": 64},
    },
    "layers": [
        {"name": "up", "parameters": 4096},
        {"name": "down", "parameters": 4096},
    ],
    "costs": {
        "kl": {"values": [[0.031, 0.0004], [0.012, 0.0002]], "meaning": "KL divergence, nats per token"}
    },
    "resources": {"weight_bytes": {"values": [[2176, 4224], [2176, 4224]], "unit": "byte"}},
}

#: The same with standard errors and a second cost table.
UNSURE_PROFILE: dict[str, Any] = TINY_PROFILE | {
    "costs": {
        "kl": {"values": [[0.031, 0.0004], [0.012, 0.0002]], "stderr": [[0.02, 0.0001], [0.01, 0.0001]]},
        "fisher": {"values": [[0.8, 0.02], [1.1, 0.03]]},
    }
}

#: A plan of layers named as transformers names them.
LLAMA_PLAN = {
    "model.layers.0.self_attn.q_proj": "int4-g128",
    "model.layers.0.self_attn.k_proj": "int8-g128",
    "model.layers.0.mlp.up_proj": "fp16",
}
