"""Models and losses whose samples are differentiated one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quantize import round_trip


def weighted(gradient: Tensor, weight: Tensor, fmt: Any) -> float:
    plain = weight.detach().numpy()
    error = round_trip(plain.astype(np.float32), fmt) - plain
    return float((np.square(gradient.numpy()) * np.square(error)).sum())


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().double()


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made


def linear() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(5, 3)))


def centred(model: nn.Module, batch: Tensor) -> Tensor:
    outputs = model(batch)
    return (outputs - outputs.mean(0)).square().sum(1)


MIXED = "/loss_fn: the loss of one sample depends on the rows of another"
