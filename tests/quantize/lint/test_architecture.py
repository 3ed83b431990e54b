"""Models of which a runtime loads no quantized weights at all: said before anything is measured or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from allocator import InvalidInputError
from quantize import apply
from quantize.lint import lint_plan, model_of_folder
from sensitivity import profile_model

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "mixtral": lambda: transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**SIZES, intermediate_size=32, num_key_value_heads=2, num_local_experts=2)
    ),
    "falcon": lambda: transformers.FalconForCausalLM(transformers.FalconConfig(**SIZES)),
}
LAYERS = {
    "mixtral": "model.layers.0.self_attn.o_proj",
    "falcon": "transformer.h.0.self_attention.dense",
}
REASONS = {
    "mixtral": "transformers merges experts as it loads",
    "falcon": "the layers of falcon with code of its own",
}


@pytest.fixture(params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    torch.manual_seed(0)
    MODELS[request.param]().save_pretrained(tmp_path / "model")
    return request.param, tmp_path / "model"


def test_transformers_does_not_load_it_and_vllm_may(saved: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = saved
    plan, known = {LAYERS[name]: "int8"}, model_of_folder(folder)
    errors = [item for item in lint_plan(plan, "transformers", known) if item.severity == "error"]
    assert [item.rule for item in errors] == ["architecture"]
    assert REASONS[name] in errors[0].detail
    assert lint_plan({LAYERS[name]: "fp16"}, "transformers", known) == ()
    assert all(item.severity == "warning" for item in lint_plan(plan, "vllm", known))
    with pytest.raises(InvalidInputError, match=f"transformers would not load it: .*{REASONS[name]}"):
        apply(folder, plan, "compressed-tensors", path=tmp_path / "out", runtime="transformers")
    made = apply(folder, plan, "compressed-tensors", path=tmp_path / "out", runtime="vllm")
    # The reason is true: the day it loads, the rule goes.
    with pytest.raises((RuntimeError, AttributeError), match=r"automatic conversion|no attribute 'weight'"):
        transformers.AutoModelForCausalLM.from_pretrained(made)(torch.tensor([[3, 4]]))


def test_nothing_is_measured_for_it(saved: tuple[str, Path]) -> None:
    name, folder = saved
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)

    def loss(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).logits.square().flatten(1).mean(1)

    with pytest.raises(InvalidInputError, match=f"/model: .*{REASONS[name]}.*; profile for another runtime"):
        profile_model(
            model, [torch.tensor([[3, 4]])], loss, ["int8"], ["weight_error"],
            runtime="transformers", checkpoint=folder,
        )  # fmt: skip


def test_experts_in_one_parameter_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GraniteMoeConfig(
        **SIZES, intermediate_size=32, num_key_value_heads=2, num_local_experts=2
    )
    transformers.GraniteMoeForCausalLM(config).save_pretrained(tmp_path / "model")
    plan = {"model.layers.0.self_attn.o_proj": "int8"}
    made = apply(
        tmp_path / "model", plan, "compressed-tensors", path=tmp_path / "out", runtime="transformers"
    )
    loaded = transformers.AutoModelForCausalLM.from_pretrained(made)
    assert bool(loaded(torch.tensor([[3, 4]])).logits.isfinite().all())
