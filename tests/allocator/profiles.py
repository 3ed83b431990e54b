"""Small profiles that the tests of the allocator share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def profile_json(**changes: Any) -> dict[str, Any]:
    """Three layers, three formats, one cost, two resources; named fields are replaced."""
    document = {
        "schema_version": 1,
        "model": "tiny",
        "formats": {
            "int2": {"weight_bits": 2},
            "int4": {"weight_bits": 4},
            "int8": {"weight_bits": 8},
        },
        "layers": [
            {"name": "block.0.up", "parameters": 80},
            {"name": "block.0.down", "parameters": 80},
            {"name": "head", "parameters": 160},
        ],
        "costs": {"kl": {"values": [[0.9, 0.3, 0.0], [0.8, 0.2, 0.0], [2.0, 0.5, 0.1]]}},
        "resources": {
            "weight_bytes": {"values": [[20, 40, 80], [20, 40, 80], [40, 80, 160]], "unit": "byte"},
            "latency_us": {"values": [[5, 6, 8], [5, 6, 8], [9, 9, 12.5]], "unit": "us", "constant": 10},
        },
    }
    return document | changes


def with_units(*units: str | None) -> list[dict[str, Any]]:
    """The layers of :func:`profile_json` with units."""
    layers: Sequence[dict[str, Any]] = profile_json()["layers"]
    return [
        layer | ({} if unit is None else {"unit": unit}) for layer, unit in zip(layers, units, strict=True)
    ]
