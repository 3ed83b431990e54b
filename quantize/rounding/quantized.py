"""What every way of rounding gives: codes, scales and zero points of a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.formats import flat_shape


@dataclass(frozen=True, eq=False)
class Quantized:
    """Codes, scales and zero points of a weight; whoever stores it need not know how they were chosen.

    Attributes:
        codes: (rows, groups, size), padded to whole groups: int16, or the small floats of formats that have such codes.
        scales: (rows, groups), as they are stored: half precision for integers; for small floats single precision, and
            powers of two in microscaling formats.
        zeros: (rows, groups) int16, all zero but for asymmetric formats.
        shape: Shape of the weight.

    Example:
        >>> made = Quantized(np.int16([[[1, 3]]]), np.float16([[0.5]]), np.int16([[2]]), (1, 2))
        >>> made.dequantize().tolist()
        [[-0.5, 0.5]]
    """

    codes: NDArray[Any]
    scales: NDArray[np.floating]
    zeros: NDArray[np.int16]
    shape: tuple[int, ...]

    def dequantize(self) -> NDArray[np.float32]:
        """Return the weight that the codes stand for, in its original shape."""
        steps = self.codes.astype(np.float32) - self.zeros[..., None].astype(np.float32)
        values = steps * self.scales.astype(np.float32)[..., None]  # (rows, groups, size)
        rows, row = flat_shape(self.shape)
        return values.reshape(rows, -1)[:, :row].reshape(self.shape)
