"""Small models made of numbers: losses that no table adds up to, and what tables say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from allocator import Profile, load_profile

FORMATS = {f"int{bits}": {"weight_bits": bits} for bits in (2, 3, 4, 8)}
BITS = np.array([2, 3, 4, 8])


def coupled(layers: int = 5, seed: int = 0) -> tuple[Profile, Callable[[Mapping[str, str]], float]]:
    """Layers whose errors are vectors that add up before they are squared; the table squares them one by one."""
    random = np.random.default_rng(seed)
    sizes = random.integers(50, 200, layers)
    errors = (
        random.standard_normal((layers, 4, 6)) * 2.0 ** -BITS[:, None] * random.lognormal(size=(layers, 1, 1))
    )
    profile = load_profile(
        {
            "formats": FORMATS,
            "layers": [{"name": f"l{index}", "parameters": int(size)} for index, size in enumerate(sizes)],
            "costs": {"kl": {"values": (errors**2).sum(2).tolist()}},
            "resources": {
                "weight_bytes": {"values": np.ceil(sizes[:, None] * BITS / 8).tolist(), "unit": "byte"},
                "latency_us": {"values": (sizes[:, None] * (1 + BITS / 8)).tolist(), "unit": "us"},
            },
        }
    )
    columns = {name: index for index, name in enumerate(FORMATS)}

    def loss(plan: Mapping[str, str]) -> float:
        if not plan:
            return 0.0
        chosen = [columns[plan[layer.name]] for layer in profile.layers]
        return float((errors[np.arange(layers), chosen].sum(0) ** 2).sum())

    return profile, loss
