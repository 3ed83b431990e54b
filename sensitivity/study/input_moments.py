r"""Second moments of what goes into each layer of the original model, for roundings that make up for errors.

A table that is measured with ``rounding=Rounding("gptq")`` takes them from the calibration data; give the same ones to
the backend, and what was measured is what is shipped, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensitivity.models.layers import LayerRef
from sensitivity.models.module_calls import on_call
from sensitivity.study.calibration import Batch, LossFunction
from sensitivity.study.second_moment import second_moment


def input_moments(
    model: nn.Module, batches: Sequence[Batch], loss_fn: LossFunction, layers: Sequence[LayerRef]
) -> dict[str, NDArray[np.floating]]:
    r"""Sum up :math:`X^\top X` over the data, in one forward pass.

    Args:
        model: In evaluation mode; bit-identical afterwards.
        loss_fn: Runs the model on a batch.

    Returns:
        Layer name to (G, in, in), or (entries,) counts of lookups; as :mod:`quantize.rounding.moments` takes them. A
        weight that
        is both looked up and multiplied with has those of the product. Layers that take no part are left out.

    Example:
        >>> from quantize import Rounding, restored, parse_format
        >>> from sensitivity.models.layers import discover
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(8, 2))
        >>> layers = discover(model)
        >>> moments = input_moments(model, [torch.randn(16, 8)], lambda model, batch: model(batch)[:, 0], layers)
        >>> weight, fmt = layers[0].weight.detach().numpy(), parse_format("int3")
        >>> restored(weight, fmt, Rounding("gptq"), moments["0"]).shape
        (2, 8)
    """
    moments: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.no_grad():
        for layer in layers:
            products = [module for module in layer.modules if not isinstance(module, nn.Embedding)]

            def gather(module: nn.Module, inputs: Tensor, _: Tensor, name: str = layer.name) -> None:
                moment = second_moment(module, _precise(inputs)).cpu()
                moments[name] = moments[name] + moment if name in moments else moment

            for module in products or layer.modules:
                hooks.callback(on_call(module, gather))
        for batch in batches:
            loss_fn(model, batch)
    return {name: moment.numpy() for name, moment in moments.items()}


def _precise(inputs: Tensor) -> Tensor:
    # Sums of squares of half precision would overflow.
    return (
        inputs.to(torch.promote_types(inputs.dtype, torch.float32)) if inputs.is_floating_point() else inputs
    )
