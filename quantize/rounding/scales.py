r"""Which scale a group of weights gets.

Two bits and up, symmetric: the codes reach :math:`-2^{b-1}` on one side and :math:`2^{b-1} - 1` on the other, and a
scale may be negative, so that either side of a group can have the longer one. With :math:`m = \max |w|`, and e the
weight that reaches it (the negative one where both signs do), the scale is the one among

.. math:: \frac{m}{(2^b - 1) / 2}, \qquad \frac{e}{-2^{b-1}}, \qquad \frac{m}{2^{b-1} - 1}

that leaves the least squared error once it is stored in half precision; the first of those that leave as little. The
first centres the range on zero and clips the extreme weight a little, the second meets it at the far end (llama.cpp's
Q4_0 and Q5_0), the third at the near end (its Q8_0). The last two find any weight that is on such a grid already, so
that rounding twice is rounding once while half precision has all its bits (scales of 2⁻¹⁴ and more).

Two bits also try the scale that is best for the codes so far, :math:`\sum w q / \sum q^2`, a few times in turn: a scale
that meets the extreme of a long row leaves few weights beside zero, and errs more than three values would.

One bit is :math:`\{-s, +s\}` with :math:`s = \overline{|w|}`, which is the best s for the signs of the weights: 0.36 of
the energy of a Gaussian is left. Asymmetric groups span their range, stretched to contain zero.

Source: the reference rounding of llama.cpp, ``ggml-quants.c``; for one bit M. Rastegari et al., "XNOR-Net", ECCV 2016.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantize.formats import StorageFormat
from quantize.rounding.codes import Float32Array, code_range, half, is_sign, nearest_codes, squared_errors

_SMALLEST = np.finfo(np.float32).smallest_normal
_REFITS = 6


def spanning(groups: Float32Array, fmt: StorageFormat) -> tuple[Float32Array, Float32Array]:
    """Positive scales and zero points that just span each group, in single precision.

    Args:
        groups: (rows, groups, size) weights.
        fmt: An integer format of two bits or more, or an asymmetric one.

    Returns:
        (rows, groups) scales, none of them zero, and (rows, groups) whole zero points.
    """
    low, high = _ends(groups)
    least, most = code_range(fmt)
    wide, steps = (
        (np.maximum(-low, high), (most - least) / 2) if fmt.symmetric else (high - low, most - least)
    )
    scales: Float32Array = np.maximum(np.divide(wide, np.float32(steps)), _SMALLEST)
    zeros = np.zeros_like(scales) if fmt.symmetric else np.rint(-low * (np.float32(1.0) / scales))
    return scales, zeros


def reaching(
    groups: Float32Array, fmt: StorageFormat, sizes: NDArray[np.int64]
) -> tuple[Float32Array, Float32Array]:
    """Where a search for a scale sets out: those that span, negative where the extreme weight is positive.

    Args:
        groups: (rows, groups, size) weights.
        fmt: An integer format.
        sizes: (groups,) weights of each group, without padding.

    Returns:
        (rows, groups) scales and zero points.
    """
    if is_sign(fmt):
        means: Float32Array = (np.abs(groups).sum(axis=2, dtype=np.float64) / sizes).astype(np.float32)
        return means, np.zeros_like(means)
    scales, zeros = spanning(groups, fmt)
    if fmt.symmetric:
        low, high = _ends(groups)
        np.negative(scales, out=scales, where=high > -low)
    return scales, zeros


def chosen(
    groups: Float32Array, fmt: StorageFormat, sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int16], NDArray[np.float16], NDArray[np.int16]]:
    """The nearest codes, at the scale that is best for each group.

    Args:
        groups: (rows, groups, size) weights.
        fmt: An integer format.
        sizes: (groups,) weights of each group, without padding.

    Returns:
        (rows, groups, size) codes, (rows, groups) scales as they are stored, (rows, groups) zero points.
    """
    if is_sign(fmt) or not fmt.symmetric:
        wide, zeros = reaching(groups, fmt, sizes)
        scales = half(wide)
        return nearest_codes(groups, scales[..., None], zeros[..., None], fmt), scales, zeros.astype(np.int16)
    none = np.zeros(groups.shape[:2], dtype=np.int16)
    first, *others = _candidates(groups, fmt)
    scales = half(first)
    codes = nearest_codes(groups, scales[..., None], none[..., None], fmt)
    errors = squared_errors(groups, codes, scales, none)
    for candidate in others:
        _keep_better(groups, fmt, half(candidate), (codes, scales, errors))
    if fmt.bits == 2:
        refit = codes
        for _ in range(_REFITS):
            refit = _keep_better(groups, fmt, half(_fitted(groups, refit)), (codes, scales, errors))
    return codes, scales, none


def _ends(groups: Float32Array) -> tuple[Float32Array, Float32Array]:
    zero = np.float32(0)
    return np.minimum(groups.min(axis=2), zero), np.maximum(groups.max(axis=2), zero)


def _candidates(groups: Float32Array, fmt: StorageFormat) -> tuple[Float32Array, ...]:
    low, high = _ends(groups)
    least, most = code_range(fmt)
    centred, _ = spanning(groups, fmt)
    far: Float32Array = np.divide(np.where(high > -low, high, low), np.float32(least))
    near: Float32Array = np.divide(np.maximum(-low, high), np.float32(most))
    return centred, far, near


def _fitted(groups: Float32Array, codes: NDArray[np.int16]) -> Float32Array:
    # Σ w q / Σ q²: what is left of w beside q · s is then at right angles to q.
    steps = codes.astype(np.float64)
    norms = np.square(steps).sum(axis=2)
    products = (groups * steps).sum(axis=2)
    fitted: Float32Array = np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0).astype(
        np.float32
    )
    return fitted


def _keep_better(
    groups: Float32Array,
    fmt: StorageFormat,
    candidate: NDArray[np.float16],
    best: tuple[NDArray[np.int16], NDArray[np.float16], NDArray[np.float64]],
) -> NDArray[np.int16]:
    # Changes what is best so far in place, and gives the codes at the candidate.
    codes, scales, errors = best
    zeros = np.zeros((), dtype=np.int16)
    found = nearest_codes(groups, candidate[..., None], zeros, fmt)
    left = squared_errors(groups, found, candidate, zeros)
    better = left < errors
    np.copyto(codes, found, where=better[..., None])
    np.copyto(scales, candidate, where=better)
    np.copyto(errors, left, where=better)
    return found
