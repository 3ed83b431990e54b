"""The plan that comes with a ranking: two formats, the less important layers in the smaller one.

Source: R.-G. Dumitru et al., "Layer-Wise Quantization", 2024: all layers start high, and the least important ones are
lowered until the average is met. There is no optimisation; the plan is there to compare the others with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from allocator import Fault, InvalidInputError
from allocator.knapsack.problem import FloatArray
from quantize import StorageFormat
from sensitivity.models.layers import LayerRef


def two_level_plan(
    layers: Sequence[LayerRef],
    importance: FloatArray,
    *,
    high: StorageFormat,
    low: StorageFormat,
    effective_bits: float,
) -> dict[str, str]:
    """Lower the least important layers, until the model has no more than an average number of bits.

    Args:
        layers: L layers.
        importance: (L,) Layers of equal importance, such as those of a block, are lowered together.
        low: Format of the others; must take fewer bytes.
        effective_bits: Most stored bits per weight, scales included, over all layers.

    Returns:
        Layer name → format name.

    Raises:
        InvalidInputError: The importance is not one number per layer, ``low`` takes no fewer bytes than ``high``, or
            everything in ``low`` is still too much.

    Example:
        >>> from torch import nn
        >>> from quantize import parse_format
        >>> from sensitivity import discover
        >>> layers = discover(nn.Sequential(*(nn.Linear(64, 64) for _ in range(3))))
        >>> high, low = parse_format("int4"), parse_format("int2")
        >>> two_level_plan(layers, np.array([0.3, 0.1, 0.2]), high=high, low=low, effective_bits=3.0)
        {'0': 'int4', '1': 'int2', '2': 'int2'}
    """
    if importance.shape != (len(layers),) or not np.isfinite(importance).all():
        detail = f"expected {len(layers)} finite numbers, one per layer, got shape {importance.shape}"
        raise InvalidInputError(Fault("/importance", detail))
    weights = sum(layer.weight.numel() for layer in layers)
    bits = np.array([[8 * item.stored_bytes(layer.weight.shape) for layer in layers] for item in (high, low)])
    if bits[1].sum() >= bits[0].sum():
        detail = f"{low.name!r} must take fewer bytes than {high.name!r}; swap them?"
        raise InvalidInputError(Fault("/low", detail))
    lowered = np.zeros(len(layers), dtype=bool)
    for level in np.unique(importance):
        if np.where(lowered, bits[1], bits[0]).sum() <= effective_bits * weights:
            break
        lowered |= importance == level
    spent = np.where(lowered, bits[1], bits[0]).sum() / weights
    if not spent <= effective_bits:
        detail = (
            f"expected at least {spent:.6g}, what all layers take in {low.name!r}, got {effective_bits:g}"
        )
        raise InvalidInputError(Fault("/effective_bits", detail))
    return {layer.name: (low if down else high).name for layer, down in zip(layers, lowered, strict=True)}
