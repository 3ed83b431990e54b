"""Gradients for chosen weights only, with the model left as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, enable_grad, nn


@contextmanager
def requiring_grad(model: nn.Module, weights: Iterable[Tensor]) -> Iterator[None]:
    """Let only some parameters require gradients.

    Args:
        weights: The parameters that gradients are wanted for.

    Yields:
        Nothing; all flags are back at the end.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(weight) for weight in weights}
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(id(parameter) in wanted)
        with enable_grad():
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
