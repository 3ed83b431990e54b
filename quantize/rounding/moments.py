r"""Second moments of what goes into a layer, :math:`X^\top X`, as rounding takes them.

A moment is (row, row) for a matrix; (G, row, row) for a convolution whose outputs fall into G groups, each with inputs
of its own; and (rows,) for a table whose entries are looked up that many times, where no error can make up for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.checkpoints.safetensors import Tensor, open_checkpoint, write_tensors
from quantize.formats import flat_shape
from quantize.storage.files import replacing

#: Layer → second moment of its inputs.
Moments: TypeAlias = Mapping[str, ArrayLike]


def shape_fault(shape: tuple[int, ...], moment: ArrayLike) -> str | None:
    """Say why a moment is not one of a layer.

    Args:
        shape: Shape of the layer's weight.

    Returns:
        The reason, or None where it can be.

    Example:
        >>> shape_fault((2, 3), np.eye(2))
        'expected (3, 3), (G, 3, 3) with G groups of rows, or (2,) for a table; got (2, 2)'
    """
    rows, row = flat_shape(shape)
    array = np.asarray(moment)
    groups = len(array) if array.ndim == 3 else 1
    if array.shape not in {(row, row), (groups, row, row), (rows,)} or rows % max(groups, 1):
        known = f"({row}, {row}), (G, {row}, {row}) with G groups of rows, or ({rows},) for a table"
        return f"expected {known}; got {array.shape}"
    if not np.isfinite(array).all():
        return "holds NaN or infinity; the layer's inputs are not finite"
    return None


def matrices(moment: ArrayLike | None) -> NDArray[np.float64] | None:
    """Return the moments of each group of rows, (G, row, row); None for tables, or without a moment."""
    if moment is None:
        return None
    array = np.asarray(moment, dtype=np.float64)
    if array.ndim == 1:
        return None
    return array if array.ndim == 3 else array[None]


def output_errors(change: NDArray[np.floating], moment: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Squared error in each output that a change of a weight makes, summed over the inputs.

    .. math:: \Delta w_r \, X^\top X \, \Delta w_r^\top

    Args:
        change: (rows, row) or any shape that starts with rows.
        moment: (row, row).

    Returns:
        (rows,).

    Example:
        >>> output_errors(np.array([[1.0, 2.0]]), np.diag([1.0, 10.0])).tolist()
        [41.0]
    """
    flat = np.asarray(change, dtype=np.float64).reshape(len(change), -1)
    errors: NDArray[np.float64] = ((flat @ moment) * flat).sum(axis=1)
    return errors


def read_moments(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the moments of a model, without torch.

    Args:
        path: A safetensors file of layer → moment, as :func:`write_moments` writes it.

    Returns:
        Layer → moment.

    Raises:
        InvalidInputError: The file cannot be read.
    """
    found = open_checkpoint(path, "/moments").tensors
    faults = [
        Fault(pointer(("moments", name)), f"expected double precision (F64), got {tensor.dtype}")
        for name, tensor in found.items()
        if tensor.dtype != "F64"
    ]
    if faults:
        raise InvalidInputError(*faults)
    return {
        name: np.frombuffer(tensor.read(), dtype=np.float64).reshape(tensor.shape)
        for name, tensor in found.items()
    }


def write_moments(path: Path, moments: Moments) -> None:
    """Keep the moments of a model.

    Args:
        path: File to write or replace.
        moments: Layer → moment.
    """
    arrays = {layer: np.asarray(moment, dtype=np.float64) for layer, moment in moments.items()}
    with replacing(path) as partial:
        write_tensors(
            partial, {name: Tensor("F64", array.shape, array.tobytes()) for name, array in arrays.items()}
        )
