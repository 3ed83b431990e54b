"""Backends apply an allocation to the model that was profiled, and to no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from allocator import Allocation, InvalidInputError, solve
from quantize import apply
from quantize.identity import identity_of, require_same_model, weight_digest
from sensitivity import profile_model
from sensitivity.models.identity import require_profiled
from tests.quantize.models import TOKENS, tiny_llama

FORMATS = ["int4-g32", "int8-g32"]


def _plan(model: nn.Module) -> Allocation:
    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = model(batch).logits
        return said.float().square().mean((1, 2))

    batches = [torch.as_tensor(np.asarray(TOKENS))]
    rules = {"units": "vllm", "exclude": ["model.embed_tokens", "lm_head"]}
    return solve(
        profile_model(model, batches, loss, FORMATS, ["weight_error"], **rules), budgets={"effective_bits": 7}
    )


def _llama(seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = tiny_llama()
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.01 * torch.randn_like(parameter)).to(torch.bfloat16).to(dtype)
    return model


@pytest.mark.parametrize("backend", ["compressed-tensors", "gguf"])
def test_a_checkpoint_in_half_precision_is_the_model_that_was_profiled_in_single(
    tmp_path: Path, backend: str
) -> None:
    plan = _plan(_llama(0))
    _llama(0, torch.bfloat16).save_pretrained(tmp_path / "same")
    _llama(1, torch.bfloat16).save_pretrained(tmp_path / "other")
    apply(tmp_path / "same", plan, backend, path=tmp_path / "out")
    with pytest.raises(
        InvalidInputError, match="another model than the one that was profiled, its weights differ"
    ):
        apply(tmp_path / "other", plan, backend, path=tmp_path / "no")
    assert not (tmp_path / "no").exists()
    assert plan.assignment is not None
    apply(tmp_path / "other", plan.assignment, backend, path=tmp_path / "insisted")


def test_modules_are_compared_too() -> None:
    plan = _plan(_llama(0))
    apply(_llama(0), plan, "torchao")
    with pytest.raises(InvalidInputError, match=r"expected LlamaForCausalLM, .* got LlamaForCausalLM"):
        apply(_llama(1), plan, "torchao")


def test_other_shapes_are_named_as_such() -> None:
    made = [
        identity_of("Net", [((rows, 2), weight_digest((rows, 2), [np.ones((rows, 2))]))]) for rows in (2, 3)
    ]
    with pytest.raises(InvalidInputError, match="its shapes differ"):
        require_same_model(*made)


def test_one_changed_weight_is_another_model() -> None:
    model = _llama(0)
    profile = profile_model(
        model,
        [torch.as_tensor(np.asarray(TOKENS))],
        lambda m, b: m(b).logits.mean((1, 2)),
        FORMATS,
        ["weight_error"],
    )
    assert require_profiled(model, profile)
    model.get_submodule("model.layers.1.mlp.down_proj").weight.data[3, 5] += 1e-3
    with pytest.raises(InvalidInputError, match="weights differ"):
        require_profiled(model, profile)
