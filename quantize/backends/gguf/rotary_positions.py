"""Rotary positions as a ``config.json`` tells of them, plain or stretched as in Llama 3.

Source: J. Su et al., "RoFormer", Neurocomputing 2024; Llama 3.1, as in transformers, ``modeling_rope_utils.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from quantize.rounding.nearest import Float32Array


def divisors_of(config: Mapping[str, Any]) -> Float32Array | None:
    r"""What Llama 3 divides its rotary frequencies by, to read further than it was trained to.

    With :math:`\lambda` the wavelength, :math:`L` the length of training and :math:`s` the factor, the divisor is 1 for
    :math:`\lambda < L / h`, :math:`s` for :math:`\lambda > L / l`, and between them
    :math:`1 / ((1 - t) / s + t)` with :math:`t = (L / \lambda - l) / (h - l)`.

    Returns:
        (head width / 2,) divisors, ``rope_freqs.weight`` of llama.cpp; None for plain rotary positions.
    """
    rope = settings_of(config)
    if rope.get("rope_type", "default") == "default":
        return None
    width = head_width(config)
    wavelength = 2 * math.pi * base_of(config) ** (np.arange(0, width, 2) / width)
    trained = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    share = np.clip((trained / wavelength - low) / (high - low), 0.0, 1.0)
    divisors: Float32Array = (1 / ((1 - share) / factor + share)).astype(np.float32)
    return divisors


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Find what a configuration says about rotary positions.

    Args:
        config: ``config.json``, of any release of transformers.

    Returns:
        The settings, with ``rope_type`` where there is one.
    """
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    if "type" in found:
        found.setdefault("rope_type", found["type"])
    return found


def base_of(config: Mapping[str, Any]) -> float:
    """Return theta, the base of the frequencies."""
    return float(settings_of(config).get("rope_theta") or config.get("rope_theta") or 10000.0)


def head_width(config: Mapping[str, Any]) -> int:
    """Find how many numbers of a head there are.

    Returns:
        The width, of which pairs are rotated.
    """
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
