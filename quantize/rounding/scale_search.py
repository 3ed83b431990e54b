r"""Scales that leave the least squared error, found on a grid below and just above the one that spans the group.

The largest weight of a group need not be kept: a smaller scale clips it and makes every other weight finer. For each
group, over factors f,

.. math:: \min_f \sum_j h_j \big(w_j - \operatorname{fp16}(f s) \, q_j(f)\big)^2, \qquad
          q_j(f) = \operatorname{clip}\big(\operatorname{round}(w_j / \operatorname{fp16}(f s)) + z\big) - z

with h the second moment of the input that weight j meets, or 1, and s the scale that spans the group, negative where
its extreme weight is positive (:mod:`quantize.rounding.scales`), so that the codes reach further on that side. Plain
rounding is the first candidate and wins ties, so that the sum never grows. Codes are chosen with the scale that is
stored.

Source: the weighted search of llama.cpp's ``make_qx_quants`` and of R. Banner et al., "Post training 4-bit quantization
of convolutional networks", NeurIPS 2019 (clipping at the least squared error).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantize.formats import StorageFormat, flat_shape
from quantize.rounding.codes import Float32Array, group_sizes, grouped, half, nearest_codes, squared_errors
from quantize.rounding.nearest import quantize
from quantize.rounding.quantized import Quantized
from quantize.rounding.scales import reaching

#: The grid, as factors of the scale that spans the group. Codes of symmetric formats reach one further down than up, so
#: that a scale above the spanning one can pay too.
_FACTORS = (0.3, 1.2)


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
        >>> fmt = parse_format("int4")
        >>> weight = np.array([[9.0, 3.0, -3.0, 3.0, -3.0, 3.0, -3.0, -9.0]], dtype=np.float32)
        >>> [made.codes[0, 0, :3].tolist() for made in (quantize(weight, fmt), search(weight, fmt, 46))]
        [[7, 2, -2], [6, 2, -2]]
    """
    best = quantize(weight, fmt)
    groups = grouped(weight, fmt)
    row = flat_shape(weight.shape)[1]
    scales, zeros = reaching(groups, fmt, group_sizes(row, fmt))
    weights = _importance(importance, row, groups.shape[1:])  # (groups, size)
    codes, stored = best.codes.copy(), np.array(best.scales, dtype=np.float16)
    least_error = squared_errors(groups, codes, stored, zeros, weights)
    for factor in np.linspace(*_FACTORS, steps, dtype=np.float32):
        scales_here = half(scales * factor)
        codes_here = nearest_codes(groups, scales_here[..., None], zeros[..., None], fmt)
        errors = squared_errors(groups, codes_here, scales_here, zeros, weights)
        better = errors < least_error  # (rows, groups)
        codes[better], stored[better] = codes_here[better], scales_here[better]
        least_error = np.where(better, errors, least_error)
    return Quantized(codes, stored, best.zeros, best.shape)


def _importance(
    importance: NDArray[np.float64] | None, row: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    padded = np.zeros(shape)  # what pads a row errs for nothing
    padded.reshape(-1)[:row] = 1 if importance is None else importance
    return padded
