r"""GPTQ: round one column after another and let the columns that are left make up for the error.

With :math:`H = X^\top X + \lambda I`, and U the upper Cholesky factor of :math:`H^{-1}` (:math:`H^{-1} = U^\top U`),
column j of W leaves :math:`e_j = (w_j - \hat w_j) / U_{jj}`, and the columns k > j become
:math:`w_k - e_j U_{jk}`: the exact minimum of :math:`\operatorname{tr}(\Delta W H \Delta W^\top)` over the columns that
are still free.

Scales are chosen for a group as it is when its first column is reached. With ``act_order`` columns go from the largest
second moment to the smallest; the columns of a group are then not neighbours in time, so scales are chosen for the
weights as they came.

Source: E. Frantar et al., "GPTQ", ICLR 2023, algorithm 1; the update is that of E. Frantar and D. Alistarh, "Optimal
Brain Compression", NeurIPS 2022, eq. 3.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from allocator import Fault, InvalidInputError
from quantize.formats import StorageFormat, flat_shape
from quantize.rounding.codes import Float32Array, nearest_codes
from quantize.rounding.nearest import quantize
from quantize.rounding.quantized import Quantized
from quantize.rounding.scale_search import search
from quantize.rounding.scales import chosen

_Float64Array = NDArray[np.float64]
#: Columns whose effect on the rest is added up before it is applied; whole groups, see :func:`compensate`.
_BLOCK = 128


def compensate(
    weight: Float32Array,
    fmt: StorageFormat,
    moment: _Float64Array,
    *,
    damping: float = 0.01,
    act_order: bool = False,
    search_steps: int | None = None,
) -> Quantized:
    """Round a weight column by column.

    Args:
        weight: (rows, row) or any shape that starts with rows.
        fmt: An integer format.
        moment: (row, row) second moment of the inputs.
        damping: λ as a share of the mean of the moment's diagonal.
        act_order: Whether columns with the largest second moments go first.
        search_steps: Points of the grid on which the scale of each group is searched; that of plain rounding if absent.

    Returns:
        Codes and scales.

    Raises:
        InvalidInputError: The weight cannot be stored in the format, or the moment has directions below zero.

    Example:
        >>> from quantize.formats import parse_format
        >>> weight = np.array([[-2.0, 0.4, 0.4, 0.4]], dtype=np.float32)
        >>> together = np.ones((4, 4))  # inputs that are always equal: only the sum of a row matters, here -0.8
        >>> fmt = parse_format("int2")  # steps of -2 / -2 = 1
        >>> quantize(weight, fmt).codes.tolist(), compensate(weight, fmt, together).codes.tolist()
        ([[[-2, 0, 0, 0]]], [[[-2, 0, 1, 0]]])
    """
    started = quantize(weight, fmt)
    rows, row = flat_shape(weight.shape)
    order = np.argsort(-np.diag(moment), kind="stable") if act_order else np.arange(row)
    upper = _inverse_factor(_damped(moment, damping)[np.ix_(order, order)])
    left = np.asarray(weight, dtype=np.float64).reshape(rows, row)[:, order]
    if act_order and search_steps is not None:
        started = search(weight, fmt, search_steps, np.diag(moment))
    scales, zeros = np.array(started.scales, dtype=np.float16), started.zeros.astype(np.float32)
    codes = np.zeros((rows, row), dtype=np.int16)
    _, size = fmt.groups(row)
    block = size * max(1, _BLOCK // size)
    for start in range(0, row, block):
        stop = min(start + block, row)
        errors = np.zeros((rows, stop - start))
        for column in range(start, stop):
            place = order[column]
            group = place // size
            if not act_order and place % size == 0:
                part = left[:, column : column + size].astype(np.float32)
                weights = np.diag(moment)[column : column + size]
                scales[:, group], zeros[:, group] = _spanning(part, fmt, search_steps, weights)
            here = nearest_codes(left[:, column], scales[:, group], zeros[:, group], fmt)
            restored = (here - zeros[:, group]) * scales[:, group].astype(np.float64)
            error = (left[:, column] - restored) / upper[column, column]
            left[:, column:stop] -= np.outer(error, upper[column, column:stop])
            errors[:, column - start], codes[:, place] = error, here
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    padded = np.zeros((rows, scales.shape[1], size))
    grown = nearest_codes(padded, scales[..., None], zeros[..., None], fmt).reshape(rows, -1)
    grown[:, :row] = codes
    return Quantized(grown.reshape(rows, -1, size), scales, zeros.astype(np.int16), started.shape)


def _spanning(
    part: Float32Array, fmt: StorageFormat, search_steps: int | None, importance: _Float64Array
) -> tuple[NDArray[np.float16], Float32Array]:
    if search_steps is not None:
        found = search(part, replace(fmt, group_size=None), search_steps, importance)
        return found.scales[:, 0].astype(np.float16), found.zeros[:, 0].astype(np.float32)
    _, scales, zeros = chosen(part[:, None, :], fmt, np.array([part.shape[1]]))
    return scales[:, 0], zeros[:, 0].astype(np.float32)


def _damped(moment: _Float64Array, damping: float) -> _Float64Array:
    diagonal = np.diag(moment)
    alive = diagonal > 0
    mean = float(diagonal[alive].mean()) if alive.any() else 1.0
    # An input that is always zero neither errs nor makes up for others: any positive second moment will do.
    damped: _Float64Array = moment + np.diag(np.where(alive, damping * mean, mean))
    return damped


def _inverse_factor(moment: _Float64Array) -> _Float64Array:
    try:
        inverse = linalg.cho_solve(linalg.cho_factor(moment), np.eye(len(moment)))
        lower: _Float64Array = np.linalg.cholesky((inverse + inverse.T) / 2)
    except linalg.LinAlgError as error:
        detail = "expected a second moment XᵀX, got a matrix with directions below zero; or raise the damping"
        raise InvalidInputError(Fault("/moment", detail)) from error
    return lower.T
