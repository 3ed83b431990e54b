"""Small models that several tests explain, and the number that is explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def seeded(make: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return make().double().eval()


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def first_output(model: nn.Module, batch: Tensor) -> Tensor:
    """The number to explain: the first output of the last position."""
    outputs: Tensor = model(batch)
    return outputs.flatten(1)[:, 0]


class Residual(nn.Module):
    """A convolution, batch normalisation, a block with a shortcut, pooling and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.inner = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.head = nn.Linear(2, 3)
        for value in (self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias):
            nn.init.uniform_(value, 0.5, 1.5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.norm(self.stem(images)), inplace=True)
        hidden = functional.max_pool2d(functional.relu(self.inner(hidden) + hidden), 2)
        result: Tensor = self.head(hidden.mean((2, 3)))
        return result


class Attention(nn.Module):
    """What :class:`torch.nn.MultiheadAttention` does, in separate steps."""

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, inputs: Tensor) -> Tensor:
        weight, bias = self.fused.in_proj_weight, self.fused.in_proj_bias
        q, k, v = (
            (inputs @ w.T + b).unflatten(2, (2, -1)).transpose(1, 2)
            for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.fused.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


class Fused(Attention):
    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.fused(inputs, inputs, inputs)[0]
        return result


def small() -> Any:
    return seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))
