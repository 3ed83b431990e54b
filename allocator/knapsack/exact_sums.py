"""Which integers doubles add up exactly: multiples of a power of two whose sums stay below 2⁵³ times that power.

Bit operations of a model of 70 billion weights are beyond 2⁵³, but all of them are multiples of a large power of two,
as the shapes of layers are. So their sums are doubles too, one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Integers below this are doubles, one by one.
LARGEST_EXACT = 2.0**53


def grain_of(values: NDArray[np.float64]) -> float:
    """The largest power of two that divides all of some integers.

    Args:
        values: Integers of any size and shape.

    Returns:
        The power; 1 where all are 0.

    Example:
        >>> grain_of(np.array([24.0, 0.0, 40.0]))
        8.0
    """
    shown = np.abs(values[values != 0])
    if shown.size == 0:
        return 1.0
    fraction, exponent = np.frexp(shown)
    digits = np.ldexp(fraction, 53).astype(np.int64)
    lowest = (digits & -digits).astype(float)  # the last bit of each
    return float(np.ldexp(lowest, exponent - 53).min())
