r"""Scales that leave the least squared error, found on a grid below and just above the one that spans the group.

The largest weight of a group need not be kept: a smaller scale clips it and makes every other weight finer. For each
group, over factors f,

.. math:: \min_f \sum_j h_j \big(w_j - \operatorname{fp16}(f s) \, q_j(f)\big)^2, \qquad
          q_j(f) = \operatorname{clip}\big(\operatorname{round}(w_j / \operatorname{fp16}(f s)) + z\big) - z

with h the second moment of the input that weight j meets, or 1. Plain rounding is the first candidate and wins ties, so
that the sum never grows. Codes are chosen with the scale that is stored.

Source: the weighted search of llama.cpp's ``make_qx_quants`` and of R. Banner et al., "Post training 4-bit quantization
of convolutional networks", NeurIPS 2019 (clipping at the least squared error).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantize.formats import StorageFormat
from quantize.rounding.nearest import Float32Array, code_range, full_range, grouped, quantize
from quantize.rounding.quantized import Quantized

#: The grid, as factors of the scale that spans the group. Codes of symmetric formats reach one further down than up, so
#: that a scale above the spanning one can pay too.
_FACTORS = (0.3, 1.2)
_LARGEST_HALF = np.float32(65504)


def search(
    weight: Float32Array, fmt: StorageFormat, steps: int, importance: NDArray[np.float64] | None = None
) -> Quantized:
    """Round a weight with the best scale of a grid for each group.

    Args:
        weight: (rows, row) or any shape that starts with rows.
        fmt: An integer format.
        steps: Points of the grid.
        importance: (row,) second moments of the inputs; all ones if absent.

    Returns:
        Codes and scales.

    Raises:
        InvalidInputError: The weight cannot be stored in the format.

    Example:
        >>> from quantize.formats import parse_format
        >>> weight = np.array([[9.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -9.0]], dtype=np.float32)
        >>> int(search(weight, parse_format("int4"), 90).codes[0, 0, 0])
        7
    """
    best = quantize(weight, fmt)
    groups = grouped(weight, fmt)
    scales, zeros = full_range(groups, fmt)
    weights = _importance(importance, groups.shape[1:])  # (groups, size)
    codes, stored = best.codes.copy(), best.scales.copy()
    least_error = _errors(groups, codes, stored, zeros, weights)
    for factor in np.linspace(*_FACTORS, steps, dtype=np.float32):
        scales_here = half(scales * factor)
        codes_here = nearest_codes(groups, scales_here[..., None], zeros[..., None], fmt)
        errors = _errors(groups, codes_here, scales_here, zeros, weights)
        better = errors < least_error  # (rows, groups)
        codes[better], stored[better] = codes_here[better], scales_here[better]
        least_error = np.where(better, errors, least_error)
    return Quantized(codes, stored, best.zeros, best.shape)


def half(scales: Float32Array) -> NDArray[np.float16]:
    """Scales as they are stored, the largest finite one in place of those beyond half precision.

    Args:
        scales: Positive scales.

    Returns:
        The same in half precision.
    """
    return np.minimum(scales, _LARGEST_HALF).astype(np.float16)


def nearest_codes(
    values: NDArray[np.floating], scales: NDArray[np.float16], zeros: Float32Array, fmt: StorageFormat
) -> NDArray[np.int16]:
    """The nearest codes at the scales that are stored.

    Args:
        values: Weights, in single or double precision.
        scales: Scales that can be broadcast against them; where one is zero, every code stands for zero.
        zeros: Zero points, likewise.
        fmt: An integer format.

    Returns:
        Codes in the shape of ``values``.
    """
    least, most = code_range(fmt)
    wide = scales.astype(values.dtype)
    inverse = np.divide(1, wide, out=np.zeros_like(wide), where=wide > 0)
    codes: NDArray[np.int16] = np.clip(np.rint(values * inverse) + zeros, least, most).astype(np.int16)
    return codes


def _importance(importance: NDArray[np.float64] | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if importance is None:
        return np.ones(shape)
    padded = np.zeros(shape)
    padded.reshape(-1)[: len(importance)] = importance
    return padded


def _errors(
    groups: Float32Array,
    codes: NDArray[np.int16],
    scales: NDArray[np.float16],
    zeros: Float32Array,
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    restored = (codes - zeros[..., None]) * scales.astype(np.float32)[..., None]
    squares = np.square(groups - restored, dtype=np.float64)
    errors: NDArray[np.float64] = (squares * weights).sum(axis=2)  # (rows, groups)
    return errors
