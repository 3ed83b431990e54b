"""How a format of its own is stored: the functions that a format brings where no rounding of this library makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Float32Array: TypeAlias = NDArray[np.float32]
_Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Codec:
    """The functions of a format of its own.

    Weights come in single precision, their rows along the first dimension, in the shape of the layer: Linear (out, in),
    Conv (out, in, kernel…), Embedding (entries, width). The functions have to be importable where work runs in several
    processes, and give the same for the same weight; rows have to be independent of each other.

    Attributes:
        weight_bits: Bits of a weight as the Profile says them; may be fractional.
        stored_bytes: Shape → exact number of bytes.
        round_trip: (weight, importance) → the weight as it will be after storing. The importance is (row,), for each
            weight of a row how much it counts: the sum of squares of what it is multiplied with, up to a factor, and
            none of them negative. It is None where nothing is known.
        needs_importance: Whether it refuses weights without one.
        misfit: Shape → why no weight of that shape can have the format; None where it can.
        stored_as: Shape → name of what the codes are of, where a shape makes them another type than the format says.
        round_activations: What it does to inputs and caches, as rows of their own; None for the same as to weights.
    """

    weight_bits: float
    stored_bytes: Callable[[_Shape], int]
    round_trip: Callable[[_Float32Array, _Float32Array | None], _Float32Array]
    needs_importance: bool = False
    misfit: Callable[[_Shape], str | None] | None = None
    stored_as: Callable[[_Shape], str] | None = None
    round_activations: Callable[[_Float32Array], _Float32Array] | None = None
