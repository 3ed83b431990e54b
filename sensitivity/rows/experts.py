"""Rows for the experts of a mixture, which transformers keep as stacks (experts, out, in) rather than as Linears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantize import StorageFormat, round_trip
from sensitivity.rows.fake_quantize import fake_quantized

#: The stacks that transformers 5 gives every mixture.
_STACKS = ("gate_up_proj", "up_proj", "down_proj")


@dataclass(frozen=True, eq=False)
class ExpertRef:
    """One projection of one expert.

    Attributes:
        name: Path of the module, number of the expert, and the projection.
        module: The module that holds all experts of the block.
        projection: Name of the stack.
        index: Number of the expert.
    """

    name: str
    module: nn.Module
    projection: str
    index: int

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the projection."""
        rows, columns = _stack(self).shape[1:]
        return (columns, rows) if _transposed(self.module) else (rows, columns)


def find_experts(model: nn.Module) -> tuple[ExpertRef, ...]:
    """Find the experts of a model.

    Args:
        model: A mixture of transformers; anything else has none.

    Returns:
        One row per expert and projection, block by block.
    """
    return tuple(
        ExpertRef(f"{name}.{index}.{projection}", module, projection, index)
        for name, module in model.named_modules()
        if hasattr(module, "num_experts")
        for index in range(_count(module))
        for projection in _STACKS
        if _is_stack(module, projection)
    )


@contextmanager
def replacing_expert(row: ExpertRef, fmt: StorageFormat) -> Iterator[None]:
    """Round one expert for a while.

    Yields:
        Nothing; the original weight is back, bit for bit, at the end.
    """
    weight = _stack(row).data[row.index]
    original = weight.clone()
    as_rows = original.T if _transposed(row.module) else original  # (out, in)
    rounded = fake_quantized(as_rows.contiguous(), row.shape, fmt, row.name, round_trip)
    weight.copy_(rounded.T if _transposed(row.module) else rounded)
    try:
        yield
    finally:
        weight.copy_(original)


def tokens_of(row: ExpertRef, routed: Tensor) -> int:
    """Count the tokens that went to an expert.

    Args:
        routed: (tokens, k) numbers of the experts that each token went to.

    Returns:
        Number of (token, place) pairs.
    """
    return int(torch.count_nonzero(routed == row.index))


def _stack(row: ExpertRef) -> Tensor:
    stack = getattr(row.module, row.projection)
    assert isinstance(stack, Tensor)
    return stack


def _is_stack(module: nn.Module, projection: str) -> bool:
    stack = module._parameters.get(projection)
    return stack is not None and stack.dim() == 3


def _count(module: nn.Module) -> int:
    return max(
        (stack.shape[0] for name in _STACKS if (stack := module._parameters.get(name)) is not None), default=0
    )


def _transposed(module: nn.Module) -> bool:
    return bool(getattr(module, "is_transposed", False))
