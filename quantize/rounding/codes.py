"""Integer codes at scales that are given: their range, the nearest of them, and what they leave of a weight.

Codes are chosen at the scale as it is stored, in half precision and with its sign. One bit has the codes −1 and +1, and
no zero between them.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantize.formats import StorageFormat, flat_shape

Float32Array: TypeAlias = NDArray[np.float32]
_LARGEST_HALF = np.float32(65504)


def code_range(fmt: StorageFormat) -> tuple[int, int]:
    """The least and the greatest code of an integer format.

    Args:
        fmt: An integer format.

    Returns:
        Both ends, included.

    Example:
        >>> from quantize.formats import parse_format
        >>> [code_range(parse_format(name)) for name in ("int4", "uint4", "int1")]
        [(-8, 7), (0, 15), (-1, 1)]
    """
    if is_sign(fmt):
        return -1, 1
    if fmt.symmetric:
        return -(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1
    return 0, 2**fmt.bits - 1


def is_sign(fmt: StorageFormat) -> bool:
    """Whether the codes of a format are signs alone.

    Args:
        fmt: A format.

    Returns:
        True for ``int1`` in groups of any size.
    """
    own = fmt.codec is None and fmt.block_size is None  # one bit of llama.cpp has codes of its own
    return own and fmt.bits == 1 and fmt.symmetric and not fmt.floating


def grouped(weight: Float32Array, fmt: StorageFormat) -> Float32Array:
    """See a weight as groups that share a scale.

    Args:
        fmt: Its format.

    Returns:
        (rows, groups, size), the last group of a row padded with zeros.
    """
    rows, row = flat_shape(weight.shape)
    count, size = fmt.groups(row)
    flat = np.ascontiguousarray(weight, dtype=np.float32).reshape(rows, row)
    if count * size != row:
        flat = np.pad(flat, ((0, 0), (0, count * size - row)))
    return flat.reshape(rows, count, size)


def group_sizes(row: int, fmt: StorageFormat) -> NDArray[np.int64]:
    """Weights of each group of a row, without padding.

    Args:
        row: Weights in a row.
        fmt: The format.

    Returns:
        (groups,).

    Example:
        >>> from quantize.formats import parse_format
        >>> group_sizes(40, parse_format("int4-g16")).tolist()
        [16, 16, 8]
    """
    count, size = fmt.groups(row)
    return np.minimum(size, row - size * np.arange(count))


def half(scales: NDArray[np.floating]) -> NDArray[np.float16]:
    """Scales as they are stored; those beyond half precision become its largest finite number.

    Args:
        scales: Scales of either sign.

    Returns:
        The same in half precision.
    """
    stored: NDArray[np.float16] = np.clip(scales, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
    return stored


def nearest_codes(
    values: NDArray[np.floating], scales: NDArray[np.float16], zeros: NDArray[np.generic], fmt: StorageFormat
) -> NDArray[np.int16]:
    """The nearest codes at the scales that are stored.

    Args:
        values: Weights, in single or double precision.
        scales: Scales that can be broadcast against them; where one is zero, every code stands for zero.
        zeros: Zero points, likewise.
        fmt: An integer format.

    Returns:
        Codes in the shape of ``values``; ties go to the even one, and a weight of zero is +1 where codes are signs.
    """
    if is_sign(fmt):
        signs: NDArray[np.int16] = np.where((values < 0) == (scales < 0), 1, -1).astype(np.int16)
        return signs
    least, most = code_range(fmt)
    wide = scales.astype(values.dtype)
    inverse = np.divide(1, wide, out=np.zeros_like(wide), where=wide != 0)
    steps = values * inverse
    np.rint(steps, out=steps)
    if not fmt.symmetric:
        steps += zeros.astype(values.dtype)
    codes: NDArray[np.int16] = np.clip(steps, least, most, out=steps).astype(np.int16)
    return codes


def squared_errors(
    groups: Float32Array,
    codes: NDArray[np.int16],
    scales: NDArray[np.float16],
    zeros: NDArray[np.generic],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """What codes leave of the weights of each group.

    Args:
        groups: (rows, groups, size) weights.
        codes: (rows, groups, size).
        scales: (rows, groups), as they are stored.
        zeros: (rows, groups).
        weights: (groups, size) factors of the squares; all ones if absent.

    Returns:
        (rows, groups) sums of squares.
    """
    steps = codes - zeros[..., None].astype(np.float32)
    squares = np.square(groups - steps * scales.astype(np.float32)[..., None], dtype=np.float64)
    if weights is not None:
        squares *= weights
    errors: NDArray[np.float64] = squares.sum(axis=2)
    return errors
