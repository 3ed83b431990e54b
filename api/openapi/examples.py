"""Examples of profiles and allocations in the OpenAPI document; operations bring their own. Tests post them all."""

from __future__ import annotations

from typing import Any

from api.operations.example_profile import TINY_PROFILE

__all__ = ["ALLOCATIONS", "PROFILES", "TINY_PROFILE"]

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
