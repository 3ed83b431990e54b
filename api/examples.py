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

PROFILES: dict[str, Any] = {
    "two layers": {"summary": "Two layers, two formats, one cost and one resource", "value": TINY_PROFILE}
}
