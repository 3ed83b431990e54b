"""Small models with their Hessians, and traces with theirs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantize import round_trip
from sensitivity import Study, hessian_trace
from tests.sensitivity.studies import make_study, squares


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 2, 2),
        nn.Tanh(),
        nn.Flatten(2),
        nn.Conv1d(2, 3, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(9, 2),
    ).double()


def embedding() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


MODELS: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "perceptron": (perceptron, [drawn(5, 3)]),
    "convolutional": (convolutional, [drawn(4, 2, 3, 3)]),
    "embedding": (embedding, [torch.tensor([[0, 1], [2, 2], [3, 0]])]),
}


every_model = pytest.mark.parametrize("name", MODELS)


def study_of(name: str, **options: Any) -> Study:
    make, batches = MODELS[name]
    return make_study(make(), batches, squares, **options)


def dense(study: Study) -> Tensor:
    """The whole Hessian of the mean loss, over the weights of all layers one after the other."""
    weights = [layer.weight.detach() for layer in study.layers]

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([weight.numel() for weight in weights])
        chosen = {
            f"{layer.name}.weight": part.reshape(weight.shape)
            for layer, part, weight in zip(study.layers, parts, weights, strict=True)
        }

        def model(batch: Tensor) -> Tensor:
            outputs: Tensor = torch.func.functional_call(study.model, chosen, (batch,))
            return outputs

        return study.loss_fn(model, study.batches[0]).mean()

    hessian: Tensor = torch.autograd.functional.hessian(
        loss, torch.cat([weight.flatten() for weight in weights])
    )
    return hessian


def exact(study: Study) -> np.ndarray:
    """(L, F) by the formula, from the dense Hessian."""
    traces = [block.diagonal().sum() for block in diagonal_blocks(study)]
    return np.array(
        [
            [float(trace) / layer.weight.numel() * squared_error(layer.weight, fmt) for fmt in study.formats]
            for trace, layer in zip(traces, study.layers, strict=True)
        ]
    )


def diagonal_blocks(study: Study) -> list[Tensor]:
    hessian, blocks, start = dense(study), [], 0
    for layer in study.layers:
        end = start + layer.weight.numel()
        blocks.append(hessian[start:end, start:end])
        start = end
    return blocks


def squared_error(weight: Tensor, fmt: Any) -> float:
    plain = weight.detach().numpy()
    return float(np.square(round_trip(plain.astype(np.float32), fmt) - plain).sum())


def diagonal(model: nn.Module, batch: Tensor) -> Tensor:
    """Losses b · |W|² of each b in the batch: the Hessian of the mean is 2 · mean(b) · I, so any probe is exact."""
    return batch * model[0].weight.square().sum()  # type: ignore[index]


def one_layer() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3)).double()


def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made if made.dim() > 1 else made[:, None]


gauss_newton = partial(hessian_trace, curvature="gauss_newton", outputs=outputs)
