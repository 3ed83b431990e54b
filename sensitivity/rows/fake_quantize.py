"""Tensors that are no layer's weight, rounded to a format and back in place of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize import StorageFormat
from quantize.rounding.codes import Float32Array
from quantize.rounding.nearest import round_inputs


def fake_quantized(
    values: Tensor,
    rows: tuple[int, int],
    fmt: StorageFormat,
    name: str,
    round_to: Callable[[Float32Array, StorageFormat], Float32Array] = round_inputs,
) -> Tensor:
    """Round a tensor to a format and back.

    Args:
        values: Any floating-point tensor.
        rows: Number of rows and values per row; each row has scales of its own.
        name: Row of the profile, for errors.
        round_to: How; unless told otherwise as kernels round what flows, with scales that just span a group.

    Returns:
        A tensor like ``values``.

    Raises:
        InvalidInputError: The values cannot be stored in the format; names the row.

    Example:
        >>> from quantize import parse_format
        >>> fake_quantized(torch.tensor([[3.0, -1.0, 0.4, 0.0]]), (1, 4), parse_format("int2"), "fc.input").tolist()
        [[2.0, 0.0, 0.0, 0.0]]
    """
    if not values.numel():
        return values
    plain = values.detach().to(torch.float32).cpu().reshape(rows).numpy()
    try:
        return torch.from_numpy(round_to(plain, fmt)).reshape(values.shape).to(values)
    except InvalidInputError as error:
        where = pointer(("layers", name))
        details = (f"what flows here cannot be stored in {fmt.name}: {item.detail}" for item in error.faults)
        raise InvalidInputError(*(Fault(where, detail) for detail in details)) from error
