"""The outputs of a model as a function of one weight, so that several weights can go through at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from sensitivity.models.layers import LayerRef
from sensitivity.study.calibration import Batch
from sensitivity.study.study import Study

#: Weight of a layer → outputs of the model.
WeightFunction: TypeAlias = Callable[[Tensor], Tensor]


class _Outputs(nn.Module):
    """The outputs of a model as a module, so that a weight can be put in by its name."""

    def __init__(self, model: nn.Module, outputs: Callable[[nn.Module, Batch], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs

    def forward(self, batch: Batch) -> Tensor:
        return self.outputs(self.model, batch)


def weight_function(
    study: Study, layer: LayerRef, outputs: Callable[[nn.Module, Batch], Tensor], batch: Batch
) -> WeightFunction:
    """See the outputs for a batch as a function of the weight of a layer.

    Args:
        layer: The layer; modules that are tied to it get the same weight.
        outputs: (model, batch) → what the model says.

    Returns:
        The function, to be called, differentiated or vectorised; it leaves the model alone.

    Example:
        >>> from sensitivity.models.layers import discover
        >>> model = nn.Sequential(nn.Linear(2, 1, bias=False))
        >>> (layer,) = discover(model)
        >>> study = Study(model, [torch.ones(1, 2)], lambda model, batch: model(batch)[:, 0], (layer,), (), 0, print)
        >>> run = weight_function(study, layer, lambda model, batch: model(batch), study.batches[0])
        >>> torch.vmap(run)(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])).flatten().tolist()
        [3.0, 7.0]
    """
    model = _Outputs(study.model, outputs)

    def run(weight: Tensor) -> Tensor:
        made: Tensor = torch.func.functional_call(model, {f"model.{layer.name}.weight": weight}, (batch,))
        return made

    return run
