"""Which rule of a compressed-tensors file has a layer, beside the package itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.exports import read
from quantize.lint import Model, lint_files

LAYERS = ["embed_tokens", "layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down", "lm_head"]
TARGETS = ["Linear", "Embedding", "layers.0.up", "lm_head"]
TARGETS += [r"re:.*layers\.0\..*", r"re:.*up$", "re:layers", "re:.*down"]


def _config(targets: list[list[str]], ignore: list[str]) -> dict[str, Any]:
    groups = {
        f"group_{index}": {
            "targets": names,
            "weights": {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "channel"},
        }
        for index, (names, bits) in enumerate(zip(targets, (4, 8, 3), strict=False))
    }
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "initialized",
            "config_groups": groups, "ignore": ignore}  # fmt: skip


def _theirs(config: dict[str, Any]) -> dict[str, str]:
    import torch
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from torch import nn

    block = lambda: nn.ModuleDict({"up": nn.Linear(8, 8), "down": nn.Linear(8, 8)})  # noqa: E731
    model = nn.ModuleDict(
        {
            "embed_tokens": nn.Embedding(8, 8),
            "layers": nn.ModuleList([block(), block()]),
            "lm_head": nn.Linear(8, 8),
        }
    )
    with torch.no_grad():
        apply_quantization_config(model, QuantizationConfig(**config))
    schemes = {name: getattr(model.get_submodule(name), "quantization_scheme", None) for name in LAYERS}
    return {name: f"int{scheme.weights.num_bits}" if scheme else "fp16" for name, scheme in schemes.items()}


@settings(max_examples=40, deadline=None)
@given(
    targets=st.lists(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3), min_size=1, max_size=3),
    ignore=st.lists(st.sampled_from(["lm_head", "re:.*1\\.up", "Embedding"]), max_size=2),
)
def test_every_layer_has_what_the_package_gives_it(targets: list[list[str]], ignore: list[str]) -> None:
    config = _config(targets, ignore)
    assert read("compressed-tensors", {"c.json": json.dumps(config)}, layers=LAYERS).assignment == _theirs(
        config
    )


@pytest.mark.parametrize("order", [1, -1])
def test_names_go_before_classes_whatever_the_order_of_groups(order: int) -> None:
    config = _config([["Linear"], [r"re:.*layers\.0\..*"]][::order], ["lm_head"])
    bits = {"Linear": "int4", "named": "int8"} if order == 1 else {"Linear": "int8", "named": "int4"}
    found = read("compressed-tensors", {"c.json": json.dumps(config)}, layers=LAYERS)
    assert found.assignment == {
        "embed_tokens": "fp16", "layers.0.up": bits["named"], "layers.0.down": bits["named"],
        "layers.1.up": bits["Linear"], "layers.1.down": bits["Linear"], "lm_head": "fp16",
    }  # fmt: skip
    assert found.unused == ()


def test_expressions_that_tools_take_in_another_order_are_a_warning() -> None:
    model = Model(dict.fromkeys(LAYERS, (128, 128)))
    files = {"c.json": json.dumps(_config([["re:.*up"], ["re:.*layers"]], ["lm_head", "embed_tokens"]))}
    (found,) = [
        item for item in lint_files("compressed-tensors", files, "vllm", model) if item.rule == "precedence"
    ]
    assert (found.severity, found.layers) == ("warning", ("layers.0.up", "layers.1.up"))
    agreed = {"c.json": json.dumps(_config([["re:.*layers"], ["re:.*up"]], ["lm_head", "embed_tokens"]))}
    assert "precedence" not in {item.rule for item in lint_files("compressed-tensors", agreed, "vllm", model)}
