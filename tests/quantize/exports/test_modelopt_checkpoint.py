"""Checkpoints of ModelOpt: both places of the section, every algorithm, and what is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from allocator import InvalidInputError
from quantize.exports import read
from quantize.exports.modelopt_checkpoint import _ALGORITHMS
from quantize.lint import Model, lint_files
from tests.quantize.exports.foreign import LAYERS, reading, short

EMBEDDED = ["model.embed_tokens", *LAYERS]


def _flat(**config: Any) -> dict[str, Any]:
    return {"model_type": "llama", "quantization_config": {"quant_method": "modelopt", **config}}


def _nested(**config: Any) -> dict[str, Any]:
    renamed = {"exclude_modules" if key == "ignore" else key: value for key, value in config.items()}
    return {"producer": {"name": "modelopt"}, "quantization": renamed}


@pytest.mark.parametrize("form", [_flat, _nested])
def test_what_is_stated_once_is_for_linear_layers(form: Any) -> None:
    document = form(quant_algo="NVFP4", group_size=16, ignore=["lm_head"], kv_cache_quant_algo="FP8")
    found = reading("modelopt", document, EMBEDDED)
    assert {layer for layer, name in found.assignment.items() if name == "fp16"} == {
        "model.embed_tokens", "lm_head",
    }  # fmt: skip
    assert found.unused == ()
    assert found.notes == ("the KV cache is quantized as well",)


@pytest.mark.parametrize("form", [_flat, _nested])
@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
@pytest.mark.parametrize("algorithm", ["FP8", "NVFP4", "FP8_PB_WO"])
def test_uniform_checkpoints_pass(form: Any, runtime: str, algorithm: str) -> None:
    model = Model(dict.fromkeys(EMBEDDED, (256, 256)))
    files = {"config.json": json.dumps(form(quant_algo=algorithm, ignore=["lm_head"]))}
    assert lint_files("modelopt", files, runtime, model) == ()


@pytest.mark.parametrize("algorithm", list(_ALGORITHMS))
def test_every_algorithm_is_read_in_any_case(algorithm: str) -> None:
    upper, lower = (
        reading("modelopt", _flat(quant_algo=name)).formats for name in (algorithm, algorithm.lower())
    )
    assert upper == lower
    assert {fmt.bits for fmt in upper.values()} == {_ALGORITHMS[algorithm][0]}


def test_layers_of_their_own_are_read_from_config_json() -> None:
    layers = {
        "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
        "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.gate_proj": {"quant_algo": "UNQUANTIZED"},
        "model.layers.1.mlp": {"quant_algo": "W4A16_AWQ", "group_size": 128},
    }
    found = reading(
        "modelopt", _flat(quant_algo="MIXED_PRECISION", quantized_layers=layers, ignore=["lm_head"])
    )
    assert short(found) == {
        "0.mlp.up_proj": "nvfp4", "0.mlp.down_proj": "fp8",
        **{f"1.mlp.{part}_proj": "int4-g128" for part in ("gate", "up", "down")},
    }  # fmt: skip


def test_a_module_of_experts_stands_for_its_experts() -> None:
    experts = [f"model.layers.0.mlp.experts.{index}.up_proj" for index in (0, 10)]
    layers = {"model.layers.0.mlp.experts": {"quant_algo": "NVFP4"}, experts[1]: {"quant_algo": "FP8"}}
    document = _nested(quant_algo="MIXED_PRECISION", quantized_layers=layers)
    found = reading("modelopt", document, [*experts, "model.layers.0.mlp.gate"])
    assert list(found.assignment.values()) == ["nvfp4", "fp8", "fp16"]


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("lm_head", {"lm_head", "language_model.lm_head"}),
        ("*.mlp.gate", {"model.layers.0.mlp.gate"}),
        ("mlp.gate", {"model.layers.0.mlp.gate"}),
        ("model.layers.0*", {"model.layers.0.mlp.gate", "model.layers.0.mlp.gate_proj"}),
        ("model.layers.0.mlp", {"model.layers.0.mlp.gate", "model.layers.0.mlp.gate_proj"}),
        ("re:.*gate_proj", {"model.layers.0.mlp.gate_proj"}),
        ("nothing", set()),
    ],
)
def test_what_is_left_out_is_a_pattern_or_a_part_of_a_path(text: str, left_out: set[str]) -> None:
    layers = ["lm_head", "language_model.lm_head", "model.layers.0.mlp.gate", "model.layers.0.mlp.gate_proj"]
    found = reading("modelopt", _flat(quant_algo="FP8", ignore=[text]), layers)
    assert {layer for layer, name in found.assignment.items() if name == "fp16"} == left_out
    assert found.unused == (() if left_out else (text,))


def test_groups_of_layers_are_read_where_no_algorithm_is_named() -> None:
    group = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"}}
    found = reading("modelopt", _flat(config_groups={"group_0": group}, ignore=["lm_head"]), EMBEDDED)
    assert {name for layer, name in found.assignment.items() if "proj" in layer} == {"fp8"}
    assert found.assignment["model.embed_tokens"] == found.assignment["lm_head"] == "fp16"


def test_of_a_folder_the_file_with_the_configuration_is_read() -> None:
    files = {
        "added_tokens.json": "[]",
        "config.json": json.dumps({"model_type": "llama"}),
        "hf_quant_config.json": json.dumps(_nested(quant_algo="FP8")),
        "tokenizer.json": "{}",
    }
    assert set(read("modelopt", files, layers=LAYERS).assignment.values()) == {"fp8"}


def test_files_without_a_section_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"expected `quantization` .* or `quantization_config` .*got neither"
    ):
        reading("modelopt", {"model_type": "llama"})
