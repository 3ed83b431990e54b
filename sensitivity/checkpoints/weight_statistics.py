r"""Statistics of a weight and of its rounding, from slices of rows that need not be in memory together.

Rows are rounded independently of each other in every format, so that slices of whole rows lose nothing; sums are kept
in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from allocator.knapsack.problem import FloatArray
from quantize import StorageFormat, restored
from sensitivity.study.second_moment import squared_output_error

#: Slices of a weight, from the first row to the last; can be gone through more than once.
Slices = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class RoundingErrors:
    """What rounding does to one weight, per format.

    Attributes:
        squared: (F,) sums of squared rounding errors.
        output: (F,) squared changes of the outputs, summed over tokens and outputs; zeros without a Gram matrix.
        norm: Sum of the squared weights.
    """

    squared: FloatArray
    output: FloatArray
    norm: float


@dataclass(frozen=True)
class Inputs:
    """What went into the users of a weight.

    Attributes:
        gram: (in, in) sum of x xᵀ over the tokens, where it is a matrix that inputs are multiplied with.
        counts: (rows,) how often each row was looked up, where it is a table.
    """

    gram: Tensor | None = None
    counts: Tensor | None = None


def rounding(
    slices: Slices, formats: Sequence[StorageFormat], inputs: Inputs | None = None
) -> RoundingErrors:
    """Round a weight in every format.

    Args:
        formats: F formats.
        inputs: What went in; for ``output``.

    Returns:
        Sums over the whole weight.
    """
    squared, output = np.zeros(len(formats)), np.zeros(len(formats))
    norm, row = 0.0, 0
    moment = None if inputs is None or inputs.gram is None else inputs.gram.numpy()
    for part in slices():
        norm += float(part.double().square().sum())
        plain = part.numpy()
        for column, fmt in enumerate(formats):
            error = torch.from_numpy(restored(plain, fmt, moment=moment) - plain).flatten(1)  # (rows, in)
            by_row = error.square().sum(1, dtype=torch.float64)  # (rows,)
            squared[column] += float(by_row.sum())
            if inputs is not None and inputs.gram is not None:
                output[column] += squared_output_error(error, inputs.gram[None])
            if inputs is not None and inputs.counts is not None:
                output[column] += float(by_row @ inputs.counts[row : row + len(by_row)].double())
        row += len(part)
    return RoundingErrors(squared, output, norm)
