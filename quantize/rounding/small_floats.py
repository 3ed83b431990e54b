r"""Floating-point codes with scales: 8-bit floats per row, and the microscaling formats.

``mxfp4`` and ``mxfp8`` share a power of two among 32 weights of a row,

.. math:: e = \lfloor \log_2 \max |w| \rfloor - e_{max}, \qquad \hat w = 2^e \cdot \operatorname{fp}(w / 2^e),

with :math:`e_{max}` the largest exponent of an element (2 for e2m1, 8 for e4m3); elements round to the nearest, ties to
even, and saturate. ``fp8-e4m3`` has one scale per row, :math:`s = \max |w| / 448` in single precision.

Source: OCP Microscaling Formats (MX) Specification 1.0, section 6.3; the scale per row is torchao's.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from quantize.formats import StorageFormat, flat_shape
from quantize.rounding.quantized import Quantized

_ELEMENTS: dict[str, Any] = {
    "fp8-e4m3": ml_dtypes.float8_e4m3fn,
    "mxfp8": ml_dtypes.float8_e4m3fn,
    "mxfp4": ml_dtypes.float4_e2m1fn,
}
_LARGEST = {"fp8-e4m3": 448, "mxfp8": 448, "mxfp4": 6}
_BIAS = 127  # of a stored exponent
_SMALLEST = np.finfo(np.float32).smallest_normal


def scaled(weight: NDArray[np.float32], fmt: StorageFormat) -> Quantized:
    """Round a weight to small floats.

    Args:
        weight: Linear (out, in), Conv (out, in, kernel…) or Embedding (entries, width) weight.
        fmt: ``fp8-e4m3``, ``mxfp8`` or ``mxfp4``.

    Returns:
        Small floats and scales.

    Example:
        >>> from quantize.formats import parse_format
        >>> scaled(np.array([[6.0, 2.6, -0.2]], dtype=np.float32), parse_format("mxfp4")).dequantize().tolist()
        [[6.0, 3.0, -0.0]]
    """
    rows, row = flat_shape(weight.shape)
    count, size = fmt.groups(row)
    flat = np.pad(np.asarray(weight, dtype=np.float32).reshape(rows, row), ((0, 0), (0, count * size - row)))
    groups = flat.reshape(rows, count, size)
    kind = _ELEMENTS[fmt.name]
    largest = np.abs(groups).max(axis=2)
    most = np.float32(_LARGEST[fmt.name])
    if fmt.scale_bits == 8:
        top = int(np.log2(most))
        exponents = np.where(largest > 0, np.frexp(largest)[1] - 1 - top, -_BIAS)
        scales = np.ldexp(np.float32(1), np.maximum(exponents, 1 - _BIAS))
    else:
        scales = np.maximum(largest / most, _SMALLEST)
    elements = np.clip(groups / scales[..., None], -most, most).astype(kind)
    zeros = np.zeros(scales.shape, dtype=np.int16)
    return Quantized(elements, scales.astype(np.float32), zeros, tuple(weight.shape))


def exponents(made: Quantized) -> NDArray[np.uint8]:
    """Scales of a microscaling format as they are stored.

    Args:
        made: A weight in such a format.

    Returns:
        (rows, groups) exponents of two, offset by 127.
    """
    biased: NDArray[np.uint8] = (np.frexp(made.scales)[1] - 1 + _BIAS).astype(np.uint8)
    return biased


def bit_patterns(made: Quantized) -> NDArray[np.uint8]:
    """Small floats as bit patterns.

    Args:
        made: A weight in a format with such codes.

    Returns:
        (rows, groups, size), one per byte.
    """
    patterns: NDArray[np.uint8] = made.codes.view(np.uint8)
    return patterns
