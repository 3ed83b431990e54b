"""Gradients for chosen weights, everything else as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sensitivity.curvature.gradients import requiring_grad


def make() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].weight.requires_grad_(False)
    return model


def flags(model: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in model.parameters()]


def test_only_the_wanted_weights_require_gradients() -> None:
    model = make()
    with requiring_grad(model, [model[1].weight]):
        wanted = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert wanted == ["1.weight"]


def test_flags_are_back_at_the_end() -> None:
    model = make()
    before = flags(model)
    assert before.count(False) == 1
    with requiring_grad(model, [model[0].weight, model[1].weight]):
        assert flags(model) != before
    assert flags(model) == before


def _break_off(model: nn.Sequential) -> None:
    with requiring_grad(model, [model[1].weight]):
        raise RuntimeError("broke")


def test_flags_are_back_after_an_error() -> None:
    model = make()
    before = flags(model)
    with pytest.raises(RuntimeError, match="broke"):
        _break_off(model)
    assert flags(model) == before


def test_gradients_flow_even_where_they_are_turned_off_around() -> None:
    model = make()
    with torch.no_grad(), requiring_grad(model, [model[0].weight]):
        assert model(torch.ones(1, 3)).requires_grad
        assert torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_no_gradient_is_left_on_the_weights() -> None:
    model = make()
    with requiring_grad(model, [model[0].weight]):
        torch.autograd.grad(model(torch.ones(1, 3)).sum(), [model[0].weight])
    assert all(parameter.grad is None for parameter in model.parameters())
