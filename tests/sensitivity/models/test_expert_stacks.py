"""Separate experts against the fused ones of transformers, and against the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from allocator import InvalidInputError
from sensitivity import discover
from sensitivity.models.blocks import find_blocks
from sensitivity.models.expert_stacks import SeparateExperts, separate_experts, split_experts
from tests.sensitivity.studies import state

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "head_dim": 8,
    "use_cache": False,
}
TOKENS = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(0))


def mixtral(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SIZES, initializer_range=0.2, **options)).eval()


def qwen(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **SIZES, num_experts=5, moe_intermediate_size=24, initializer_range=0.2, **options
    )
    return Qwen3MoeForCausalLM(config).eval()


def said(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(TOKENS).logits
    return logits


@pytest.mark.parametrize("make", [mixtral, qwen])
@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_outputs_stay_the_same_and_weights_bit_for_bit(make: Any, implementation: str) -> None:
    model = make(experts_implementation=implementation)
    before, fused = said(model), model.model.layers[1].mlp.experts
    gate_up, down = fused.gate_up_proj.detach().clone(), fused.down_proj.detach().clone()
    assert separate_experts(model) == 2
    torch.testing.assert_close(said(model), before, rtol=1e-4, atol=1e-5)
    expert = model.model.layers[1].mlp.experts.get_submodule("3")
    assert torch.equal(torch.cat([expert.gate_proj.weight, expert.up_proj.weight]), gate_up[3])
    assert torch.equal(expert.down_proj.weight, down[3])


def test_outputs_are_those_of_the_formula() -> None:
    fused = mixtral().model.layers[0].mlp.experts.double()
    experts = SeparateExperts(fused)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 16, generator=generator, dtype=torch.float64)
    weights, chosen = torch.rand(7, 4, generator=generator, dtype=torch.float64).topk(
        2
    )  # nobody asks the fifth expert
    with torch.no_grad():
        slow = torch.zeros_like(hidden)
        for token in range(7):
            for weight, index in zip(weights[token], chosen[token].tolist(), strict=True):
                gate, up = (fused.gate_up_proj[index] @ hidden[token]).chunk(2)
                slow[token] += weight * fused.down_proj[index] @ (nn.functional.silu(gate) * up)
        torch.testing.assert_close(experts(hidden, chosen, weights), slow, rtol=1e-12, atol=1e-14)


def test_every_expert_is_found_as_three_layers() -> None:
    model = mixtral()
    assert not any("experts" in layer.name for layer in discover(model))
    separate_experts(model)
    names = [layer.name for layer in discover(model) if "experts" in layer.name]
    assert len(names) == 2 * 5 * 3
    assert names[:3] == [f"model.layers.0.mlp.experts.0.{part}_proj" for part in ("gate", "up", "down")]


def test_experts_are_no_blocks() -> None:
    model = mixtral()  # with more experts than blocks
    separate_experts(model)
    assert [block.name for block in find_blocks(model)] == ["model.layers.0", "model.layers.1"]


def test_gradients_are_those_of_the_fused_experts() -> None:
    fused, separate = mixtral(), mixtral()
    separate_experts(separate)
    for model in (fused, separate):
        model(TOKENS, labels=TOKENS).loss.backward()
    gradient = fused.model.layers[0].mlp.experts.down_proj.grad[2]
    same = separate.get_submodule("model.layers.0.mlp.experts.2.down_proj").weight.grad
    torch.testing.assert_close(same, gradient, rtol=1e-3, atol=1e-6)


def test_the_mode_of_the_model_is_kept() -> None:
    for training in (True, False):
        model = mixtral().train(training)
        separate_experts(model)
        assert {module.training for module in model.modules()} == {training}


def test_a_model_without_experts_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    assert separate_experts(model) == 0


def test_experts_that_are_stored_otherwise_are_refused_and_nothing_is_changed() -> None:
    config = GptOssConfig(**SIZES)
    model = GptOssForCausalLM(config).eval()
    before = [type(module) for module in model.modules()]
    with pytest.raises(
        InvalidInputError,
        match=r"/model/model\.layers\.0\.mlp\.experts: GptOssExperts holds .*gate_up_proj_bias",
    ):
        separate_experts(model)
    assert [type(module) for module in model.modules()] == before


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("is_transposed", True),
        ("is_concatenated", False),
        ("has_gate", False),
        ("has_bias", True),
        ("has_post_expert_norm", True),
    ],
)
def test_a_layout_that_is_not_understood_is_refused(flag: str, value: bool) -> None:
    model = mixtral()
    setattr(model.model.layers[1].mlp.experts, flag, value)
    detail = rf"layers\.1\.mlp\.experts: MixtralExperts stores its experts with {flag}={value}; expected {not value}"
    with pytest.raises(InvalidInputError, match=detail):
        separate_experts(model)
    assert not any(isinstance(module, SeparateExperts) for module in model.modules())


def test_for_a_while_the_experts_are_layers_on_the_memory_of_the_fused_ones() -> None:
    model = mixtral()
    before, plain = state(model), said(model)
    fused = model.model.layers[0].mlp.experts.gate_up_proj  # type: ignore[union-attr, index]
    with split_experts(model):
        layers = {layer.name: layer for layer in discover(model) if "experts" in layer.name}
        assert len(layers) == 2 * 5 * 3
        up = layers["model.layers.0.mlp.experts.3.up_proj"]
        assert up.weight.data_ptr() == fused[3, 24:].data_ptr()
        torch.testing.assert_close(said(model), plain)
    assert state(model) == before


def test_the_fused_modules_are_back_when_something_raises() -> None:
    model = mixtral()
    before = state(model)
    with pytest.raises(RuntimeError, match="broke"), split_experts(model):
        raise RuntimeError("broke")
    assert state(model) == before


def test_there_must_be_something_to_split() -> None:
    nothing = nn.Linear(2, 2)
    detail = "/model: Linear has no experts in three-dimensional parameters"
    with pytest.raises(InvalidInputError, match=detail), split_experts(nothing):
        pass


def test_the_experts_cannot_be_the_model_itself() -> None:
    experts = mixtral().model.layers[0].mlp.experts  # type: ignore[union-attr, index]
    with pytest.raises(InvalidInputError, match="is the model itself"), split_experts(experts):  # type: ignore[arg-type]
        pass
