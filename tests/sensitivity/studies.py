"""Studies of small models, and what a model looks like before and after one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quantize import parse_format
from sensitivity import Study, discover
from sensitivity.study.calibration import LossFunction
from sensitivity.study.study import Progress, silent


def make_study(
    model: nn.Module,
    batches: Sequence[Any],
    loss_fn: LossFunction,
    formats: Sequence[str] = ("int2", "int4-g4", "uint3", "fp16"),
    *,
    exclude: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Study:
    parsed = tuple(parse_format(name) for name in formats)
    return Study(model.eval(), batches, loss_fn, discover(model, exclude), parsed, seed, progress)


def squares(model: nn.Module, batch: Tensor) -> Tensor:
    """One loss per row of a batch of inputs: the sum of squared outputs."""
    outputs: Tensor = model(batch).square()
    return outputs.flatten(1).sum(1)


def state(model: nn.Module) -> list[object]:
    """Everything an estimator could leave changed: numbers, flags, gradients, hooks and replaced functions."""
    return [
        [(name, value.numpy().tobytes()) for name, value in model.state_dict().items()],
        [(name, id(value), value.data_ptr()) for name, value in model.named_parameters()],
        [(value.requires_grad, value.grad) for value in model.parameters()],
        [module.training for module in model.modules()],
        [
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
            for module in model.modules()
        ],
        ["forward" in module.__dict__ for module in model.modules()],
    ]


class Blocks(nn.Module):
    """A stem, blocks in a list, and a head; the order in which blocks run can be chosen."""

    def __init__(self, order: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.order = tuple(order)
        self.stem = nn.Linear(4, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3))
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.stem(inputs)
        for index in self.order:
            hidden = self.blocks[index](hidden)
        outputs: Tensor = self.head(hidden)
        return outputs
