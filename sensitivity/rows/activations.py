"""Rows for activations: what flows into a Linear or convolution, rounded on the way in.

Scales are found anew in each pass, as dynamic quantization does: a Linear rounds each token by itself (groups run
along its features), a convolution each sample (groups run along channels and pixels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from quantize import StorageFormat
from sensitivity.models.layers import LayerRef
from sensitivity.rows.fake_quantize import fake_quantized

_COMPUTING = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True, eq=False)
class ActivationRef:
    """The input of one module.

    Attributes:
        name: Path of the module and ``.input``.
        module: The module.
        layer: Name of the weight row that the module computes with.
    """

    name: str
    module: nn.Module
    layer: str


def find_activations(model: nn.Module, layers: Sequence[LayerRef]) -> tuple[ActivationRef, ...]:
    """Find the inputs of layers; lookups have none.

    Returns:
        One row per module that multiplies, in the order of the model.

    Example:
        >>> from sensitivity.models.layers import discover
        >>> model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
        >>> [row.name for row in find_activations(model, discover(model))]
        ['1.input']
    """
    owners = {id(module): layer.name for layer in layers for module in layer.modules}
    return tuple(
        ActivationRef(f"{name}.input", module, owners[id(module)])
        for name, module in model.named_modules()
        if isinstance(module, _COMPUTING) and id(module) in owners
    )


@contextmanager
def rounding_input(row: ActivationRef, fmt: StorageFormat) -> Iterator[None]:
    """Round what flows into a module for a while.

    Yields:
        Nothing; the hook is gone at the end.
    """

    def narrow(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (fake_quantized(inputs[0], rows_of(module, inputs[0]), fmt, row.name), *inputs[1:])

    handle = row.module.register_forward_pre_hook(narrow)
    try:
        yield
    finally:
        handle.remove()


def rows_of(module: nn.Module, inputs: Tensor) -> tuple[int, int]:
    """See the input of a module as rows that have scales of their own.

    Args:
        module: A Linear (…, in) or a convolution (B, in, …), with or without B.
        inputs: What flows in.

    Returns:
        Number of rows and values per row.
    """
    if isinstance(module, nn.Linear):
        return inputs.numel() // inputs.shape[-1], inputs.shape[-1]
    batched = inputs.dim() == module.weight.dim()  # type: ignore[operator]
    samples = inputs.shape[0] if batched else 1
    return samples, inputs.numel() // samples
