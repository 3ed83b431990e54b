"""Examples shown in the OpenAPI document; the tests post each of them."""

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

ALLOCATIONS: dict[str, Any] = {
    "average bits": {
        "summary": "The best plan at six and a half stored bits per weight",
        "value": {"profile": TINY_PROFILE, "objective": "kl", "budgets": {"effective_bits": 6.5}},
    },
    "bytes and a pin": {
        "summary": "A size in KiB, with one layer already decided",
        "value": {"profile": TINY_PROFILE, "budgets": {"weight_bytes": "7 KiB"}, "pin": {"down": "int8-g64"}},
    },
    "the smallest model": {
        "summary": "A resource as the objective and a cost as the budget",
        "value": {"profile": TINY_PROFILE, "objective": "weight_bytes", "budgets": {"kl": 0.02}},
    },
}

_UNSURE = TINY_PROFILE | {
    "costs": {
        "kl": {"values": [[0.031, 0.0004], [0.012, 0.0002]], "stderr": [[0.02, 0.0001], [0.01, 0.0001]]},
        "fisher": {"values": [[0.8, 0.02], [1.1, 0.03]]},
    }
}

FRONTIERS: dict[str, Any] = {
    "supported plans": {
        "summary": "Every plan on the hull of bytes against KL divergence",
        "value": {"profile": TINY_PROFILE},
    },
    "exact points": {
        "summary": "Proved plans at three sizes, and what simple rules reach there",
        "value": {"profile": TINY_PROFILE, "points": 3, "baselines": ["uniform", "greedy"]},
    },
    "two budgets": {
        "summary": "Proved plans at sizes of one's own",
        "value": {"profile": TINY_PROFILE, "resource": "effective_bits", "points": [5, "6.5"]},
    },
}

EXPLANATIONS: dict[str, Any] = {
    "a layer": {
        "summary": "Why `down` got its format",
        "value": {"profile": TINY_PROFILE, "budgets": {"effective_bits": 6.5}, "layers": ["down"]},
    },
    "how sure": {
        "summary": "Solved again over fifty resampled tables",
        "value": {
            "profile": _UNSURE,
            "objective": "kl",
            "budgets": {"weight_bytes": "7 KiB"},
            "resamples": 50,
        },
    },
    "a conflict": {
        "summary": "A size that no plan has, and what would be enough",
        "value": {"profile": TINY_PROFILE, "budgets": {"weight_bytes": 4000}},
    },
}

COMPARISONS: dict[str, Any] = {
    "two tables": {
        "summary": "The plans that two cost tables lead to at one size",
        "value": {
            "profile": _UNSURE,
            "budgets": {"effective_bits": 6.5},
            "first": {"objective": "kl"},
            "second": {"objective": "fisher"},
        },
    },
    "two plans": {
        "summary": "A plan of one's own against the best one",
        "value": {
            "profile": TINY_PROFILE,
            "budgets": {"effective_bits": 6.5},
            "first": {"assignment": {"up": "int4-g64", "down": "int8-g64"}},
            "second": {},
        },
    },
}

_LLAMA = {
    "model.layers.0.self_attn.q_proj": "int4-g128",
    "model.layers.0.self_attn.k_proj": "int8-g128",
    "model.layers.0.mlp.up_proj": "fp16",
}

EXPORTS: dict[str, Any] = {
    "compressed-tensors": {
        "summary": "What vLLM reads from a checkpoint's config.json",
        "value": {"plan": _LLAMA, "target": "compressed-tensors", "others": ["lm_head"]},
    },
    "a loss": {
        "summary": "MLX has no symmetric formats: each layer is in the loss report",
        "value": {"plan": _LLAMA, "target": "mlx"},
    },
}

LINTS: dict[str, Any] = {
    "a plan": {
        "summary": "vLLM fuses q and k, which have different formats here",
        "value": {"plan": _LLAMA, "runtime": "vllm"},
    },
    "files": {
        "summary": "A configuration as a tool wrote it, with the model's shapes",
        "value": {
            "runtime": "onnxruntime",
            "format": "olive",
            "files": {"quantization_config.json": '{"bits": 4, "group_size": 64, "symmetric": true}'},
            "model": {"shapes": {"up": [4096, 1000], "down": [1000, 4096]}},
        },
    },
}

PROFILES: dict[str, Any] = {
    "two layers": {"summary": "Two layers, two formats, one cost and one resource", "value": TINY_PROFILE}
}
