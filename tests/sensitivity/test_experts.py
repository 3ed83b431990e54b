"""Split experts compute what the fused ones do, on the same memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from sensitivity import discover
from sensitivity.experts import split_experts
from tests.sensitivity.language_models import mixtral, tokens
from tests.sensitivity.studies import Blocks, state


def test_the_outputs_are_the_same_bit_for_bit_and_the_model_is_as_it_was() -> None:
    model, before = mixtral(), None
    before = state(model)
    with torch.no_grad():
        plain = model(tokens()).logits
        with split_experts(model):
            assert torch.equal(model(tokens()).logits, plain)
    assert state(model) == before


def test_every_expert_is_two_layers_on_the_memory_of_the_fused_ones() -> None:
    model = mixtral()
    fused = model.model.layers[0].mlp.experts.gate_up_proj  # type: ignore[union-attr, index]
    assert not [layer.name for layer in discover(model) if "experts" in layer.name]
    with split_experts(model):
        layers = {layer.name: layer for layer in discover(model) if "experts" in layer.name}
        assert len(layers) == 2 * 4 * 2
        layer = layers["model.layers.0.mlp.experts.3.gate_up_proj"]
        assert layer.weight.shape == (48, 16)
        assert layer.weight.data_ptr() == fused[3].data_ptr()
        assert torch.equal(layer.weight, fused[3])


def test_the_fused_modules_are_back_when_something_raises() -> None:
    model = mixtral()
    before = state(model)
    with pytest.raises(RuntimeError, match="broke"), split_experts(model):
        raise RuntimeError("broke")
    assert state(model) == before


def test_a_model_without_fused_experts_is_refused() -> None:
    with (
        pytest.raises(
            InvalidInputError, match="/model: Blocks has no experts in three-dimensional parameters"
        ),
        split_experts(Blocks()),
    ):
        pass


def test_experts_in_another_layout_are_refused_before_anything_changes() -> None:
    model = mixtral()
    odd = model.model.layers[1].mlp.experts  # type: ignore[union-attr, index]
    odd.is_transposed = True  # type: ignore[union-attr]
    odd.gate_up_proj_bias = nn.Parameter(torch.zeros(4, 48))  # type: ignore[union-attr]
    before = state(model)
    detail = (
        "/layers/model.layers.1.mlp.experts: expected experts as gate_up_proj .* but is_transposed is True; "
        "its parameters are down_proj, gate_up_proj, gate_up_proj_bias"
    )
    with pytest.raises(InvalidInputError, match=detail), split_experts(model):
        pass
    assert state(model) == before


def test_the_experts_cannot_be_the_model_itself() -> None:
    experts = mixtral().model.layers[0].mlp.experts  # type: ignore[union-attr, index]
    with pytest.raises(InvalidInputError, match="it is the model itself"), split_experts(experts):  # type: ignore[arg-type]
        pass
