"""Codes as dense bits: no padding between codes, the first code in the lowest bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(codes: NDArray[np.integer[Any]], bits: int) -> NDArray[np.uint8]:
    """Pack codes.

    Args:
        codes: (…, size) codes of 0 … 2^bits − 1.
        bits: Their width, at most 8.

    Returns:
        (…, ⌈size · bits / 8⌉) bytes; the bits left in the last byte are zero.

    Example:
        >>> packed(np.array([0, 15]), 4).tolist(), packed(np.array([1, 2, 3]), 3).tolist()
        ([240], [209, 0])
    """
    single = np.unpackbits(codes.astype(np.uint8)[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(single.reshape(*codes.shape[:-1], -1), axis=-1, bitorder="little")
