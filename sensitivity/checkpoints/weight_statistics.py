r"""Statistics of a weight and of its rounding, from slices of rows that need not be in memory together.

Rows are rounded independently of each other in every format, so that slices of whole rows lose nothing; sums are kept
in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from allocator.knapsack.problem import FloatArray
from quantize import StorageFormat, round_trip

#: Slices of a weight, from the first row to the last; can be gone through more than once.
Slices = Callable[[], Iterable[Tensor]]


def zd(slices: Slices) -> float:
    r"""Share of weights that are much larger than the average.

    .. math:: ZD(W) = \frac{1}{n} \big|\{ w : w > \mu + \sigma \}\big|

    with the mean and the (population) standard deviation of the weight. No data is needed. In the paper a layer with a
    *smaller* share is the more important one.

    Returns:
        A number between 0 and 1/2.

    Source: R. Dumitru et al., "Layer-Wise Quantization", 2024 (arXiv 2406.17415).

    Example:
        >>> zd(lambda: [torch.tensor([[0.0, 0.0], [0.0, 4.0]])])
        0.25
    """
    count, mean, squares = 0, 0.0, 0.0
    for part in slices():  # means and squares of two samples are merged as by Chan, Golub and LeVeque
        wide = part.double()
        size, middle = wide.numel(), float(wide.mean())
        step = middle - mean
        squares += float((wide - middle).square().sum()) + step**2 * count * size / (count + size)
        mean += step * size / (count + size)
        count += size
    limit = mean + math.sqrt(squares / count)
    return sum(int((part.double() > limit).sum()) for part in slices()) / count


@dataclass(frozen=True)
class RoundingErrors:
    """What rounding does to one weight, per format.

    Attributes:
        squared: (F,) sums of squared rounding errors.
        output: (F,) :func:`output_mse`; zeros without a Gram matrix.
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


def output_mse(error: Tensor, gram: Tensor) -> float:
    r"""Squared change of a layer's outputs, summed over tokens and outputs.

    .. math:: \operatorname{tr}(\Delta W \cdot X^\top X \cdot \Delta W^\top) = \lVert X \Delta W^\top \rVert^2

    Args:
        error: (out, in) rounding error.
        gram: (in, in) :math:`X^\top X`.

    Returns:
        The trace.

    Example:
        >>> output_mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 10.0]]))
        41.0
    """
    return float(((error @ gram) * error).sum(dtype=torch.float64))


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
    for part in slices():
        norm += float(part.double().square().sum())
        plain = part.numpy()
        for column, fmt in enumerate(formats):
            error = torch.from_numpy(round_trip(plain, fmt) - plain).flatten(1)  # (rows, in)
            by_row = error.square().sum(1, dtype=torch.float64)  # (rows,)
            squared[column] += float(by_row.sum())
            if inputs is not None and inputs.gram is not None:
                output[column] += output_mse(error, inputs.gram)
            if inputs is not None and inputs.counts is not None:
                output[column] += float(by_row @ inputs.counts[row : row + len(by_row)].double())
        row += len(part)
    return RoundingErrors(squared, output, norm)
