"""Files as other tools write them, in forms that are not our own: what they say is read, or refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from allocator import InvalidInputError
from quantize.exports import read
from quantize.lint import Model, lint_files
from tests.quantize.exports.foreign import LAYERS, reading

UP, QUERY = "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj"
NAMES = ["model.embed_tokens", *LAYERS]
GROUP = {
    "targets": ["Linear"],
    "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
}
CT = {"quant_method": "compressed-tensors", "config_groups": {"g": GROUP}, "ignore": ["lm_head"]}


def _checkpoint(**config: object) -> dict[str, Any]:
    return {"model_type": "llama", "quantization_config": config}


@pytest.mark.parametrize(
    "document",
    [
        {"model_type": "llava", "text_config": {"quantization_config": CT}},
        {"model_type": "llama", "compression_config": CT},
        {"quantization_config": {**CT, "config_groups": {"W4A16": ["Linear"]}}},
    ],
)
def test_a_section_is_found_wherever_loaders_look_for_it(document: dict[str, Any]) -> None:
    found = reading("compressed-tensors", document, NAMES).assignment
    assert found[UP].startswith("int4-g")
    assert found["lm_head"] == found["model.embed_tokens"] == "fp16"


@pytest.mark.parametrize(
    ("target", "document", "message"),
    [
        (
            "auto-round",
            _checkpoint(quant_method="awq", bits=4, group_size=128, zero_point=True),
            "expected quant_method auto-round .* got 'awq'; read it as gptqmodel",
        ),
        (
            "gptqmodel",
            _checkpoint(quant_method="fp8", weight_block_size=[128, 128]),
            "/config.json/quantization_config/quant_method: .* got 'fp8'; that cannot be read here",
        ),
        ("compressed-tensors", _checkpoint(quant_method="gptq", bits=4), "read it as gptqmodel"),
        (
            "mlx",
            _checkpoint(quant_method="gptq", bits=4),
            "expected no quant_method, as MLX writes it, got 'gptq'",
        ),
        ("modelopt", _checkpoint(quant_method="quark", quant_algo="FP8"), "got 'quark'; read it as quark"),
        ("torchao", _checkpoint(quant_method="awq"), "expected quant_method torchao, got 'awq'"),
        ("gptqmodel", {"model_type": "llama"}, "got the configuration of a model that is not quantized"),
        ("mlx", {"architectures": ["LlamaForCausalLM"]}, "of a model that is not quantized"),
    ],
)
def test_a_section_of_another_tool_is_refused(target: str, document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        reading(target, document)


def test_mlx_also_writes_its_settings_as_a_section() -> None:
    found = reading("mlx", _checkpoint(group_size=32, bits=4, mode="mxfp4")).assignment
    assert set(found.values()) == {"mxfp4"}


@pytest.mark.parametrize(
    ("weights", "name", "note"),
    [
        ({"num_bits": 8, "type": "float", "strategy": "channel"}, "fp8-e4m3", None),
        ({"num_bits": 8, "type": "float", "strategy": "tensor"}, "fp8", "g has one scale per tensor"),
        (
            {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]},
            "fp8",
            "g has one scale per block of rows and columns",
        ),
        ({"num_bits": 8, "strategy": "tensor"}, "int8", "g has one scale per tensor, read as one per row"),
    ],
)
def test_scales_of_more_than_a_row_are_said(weights: dict[str, Any], name: str, note: str | None) -> None:
    config = {**CT, "config_groups": {"g": {"targets": ["Linear"], "weights": weights}}}
    found = reading("compressed-tensors", {"quantization_config": config})
    assert found.assignment[UP] == name
    assert found.notes == (() if note is None else (note,))


def test_what_else_a_file_does_to_weights_is_said() -> None:
    config = {**CT, "transform_config": {"config_groups": {"R1": {}}}, "kv_cache_scheme": {"num_bits": 8}}
    found = reading("compressed-tensors", {"quantization_config": config})
    assert found.notes == (
        "the KV cache is quantized as well, which a plan of weights does not hold",
        "weights are rotated first, which a plan does not hold",
    )


def test_groups_without_a_size_are_refused() -> None:
    weights = {"num_bits": 4, "strategy": "group"}
    with pytest.raises(
        InvalidInputError, match=r"/g/weights/group_size: expected a group_size above 0 .* got -1"
    ):
        reading("compressed-tensors", {"config_groups": {"g": {"targets": ["Linear"], "weights": weights}}})


AUTO_ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "data_type": "int"}


@pytest.mark.parametrize(
    "blocks", ["model.layers.1", ["model.layers.1", "model.visual"], [["model.layers.1."]]]
)
def test_auto_round_quantizes_the_blocks_that_it_names(blocks: object) -> None:
    found = reading("auto-round", _checkpoint(**AUTO_ROUND, block_name_to_quantize=blocks), NAMES)
    assert {layer.split(".")[2] for layer, name in found.assignment.items() if name != "fp16"} == {"1"}
    assert found.unused == (("model.visual",) if "model.visual" in blocks else ())


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({"mlp": {"bits": 8}, UP: {"bits": 2}}, {UP: "int8-g128", QUERY: "fp16"}),
        (
            {UP: "W2A16G32", "self_attn": {"scheme": "W8A16", "group_size": 64}},
            {UP: "int2-g32", QUERY: "int8-g64"},
        ),
        ({UP: "MXFP4", QUERY: "gguf:q4_k_m"}, {UP: "mxfp4", QUERY: "q4_k"}),
        ({UP: "FP8_BLOCK", QUERY: "FP8_STATIC"}, {UP: "fp8", QUERY: "fp8-e4m3"}),
        ({UP: {"data_type": "mx_fp8_rceil", "group_size": 32}, QUERY: "BF16"}, {UP: "mxfp8", QUERY: "fp16"}),
    ],
)
def test_auto_round_takes_schemes_and_parts_of_names(
    layers: dict[str, Any], expected: dict[str, str]
) -> None:
    found = reading("auto-round", layers)
    assert {layer: found.assignment[layer] for layer in expected} == expected
    assert found.unused == ()


def test_a_part_of_names_is_unused_where_nothing_has_it() -> None:
    assert reading("auto-round", {"visual": {"bits": 8}}).unused == ("visual",)


def test_settings_of_autoawq_are_read() -> None:
    document = {"w_bit": 4, "q_group_size": 64, "zero_point": True, "version": "GEMM"}
    found = read("gptqmodel", {"quant_config.json": json.dumps(document)}, layers=NAMES).assignment
    assert found[UP] == "uint4-g64"
    assert found["lm_head"] == found["model.embed_tokens"] == "fp16"


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "gptq", "modules_in_block_to_quantize": [["self_attn.q_proj", "self_attn.k_proj"]]},
        {"quant_method": "awq", "modules_to_not_convert": ["mlp.gate_proj", "mlp.up_proj"]},
    ],
)
def test_parts_of_names_are_compared_with_shards_and_so_survive_fusion(settings: dict[str, Any]) -> None:
    document = _checkpoint(bits=4, group_size=64, **settings)
    layers = [name for name in LAYERS if not name.endswith("v_proj")]
    found = lint_files(
        "gptqmodel", {"config.json": json.dumps(document)}, "vllm", Model(dict.fromkeys(layers))
    )
    assert [finding for finding in found if finding.rule == "fused-names"] == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"layer_type_quant_config": {"Linear": {"weight": {"dtype": "int8"}}}},
            {UP: "int8", "lm_head": "int8"},
        ),
        (
            {
                "global_quant_config": {
                    "weight": {
                        "dtype": "fp4",
                        "qscheme": "per_group",
                        "group_size": 32,
                        "scale_format": "e8m0",
                    }
                },
                "layer_quant_config": None,
                "exclude": ["re:.*self_attn.*", "lm_head"],
            },
            {UP: "mxfp4", QUERY: "fp16", "lm_head": "fp16"},
        ),
        (
            {
                "global_quant_config": {
                    "weight": {"dtype": "mx", "mx_element_dtype": "fp8_e4m3", "group_size": 32}
                }
            },
            {UP: "mxfp8"},
        ),
    ],
)
def test_quark_states_classes_expressions_and_microscaling(
    config: dict[str, Any], expected: dict[str, str]
) -> None:
    found = reading("quark", _checkpoint(quant_method="quark", **config), NAMES)
    assert {layer: found.assignment[layer] for layer in expected} == expected
    assert found.assignment["model.embed_tokens"] == "fp16"
    assert found.unused == ()


def _recipe(entries: object) -> dict[str, str]:
    return {"recipe.yaml": yaml.safe_dump({"quantize": {"quant_cfg": entries}}, sort_keys=False)}


def test_modelopt_compares_patterns_with_names_of_quantizers() -> None:
    entries = [
        {"quantizer_name": "*", "enable": False},
        {
            "quantizer_name": "*weight_quantizer",
            "cfg": {"num_bits": "e2m1", "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": "e4m3"}},
        },
        {"quantizer_name": "*lm_head*", "enable": False},
        {"quantizer_name": "*q_proj*", "enable": False},
        {"parent_class": "nn.Embedding", "quantizer_name": "*", "enable": False},
        {"parent_class": "nn.BatchNorm1d", "quantizer_name": "*", "enable": False},
    ]
    found = read("modelopt", _recipe(entries), layers=NAMES)
    assert found.assignment[UP] == "nvfp4"
    assert {found.assignment[layer] for layer in (QUERY, "lm_head", "model.embed_tokens")} == {"fp16"}
    assert found.unused == ()


def test_modelopt_switches_all_off_where_that_comes_last() -> None:
    entries = [{"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 8, "axis": 0}}]
    last = {"quantizer_name": "*", "enable": False}
    assert set(read("modelopt", _recipe([*entries, last]), layers=NAMES).assignment.values()) == {"fp16"}
    assert set(read("modelopt", _recipe([last, *entries]), layers=NAMES).assignment.values()) == {"int8"}


def test_tables_of_older_modelopt_are_read() -> None:
    older = {
        "*weight_quantizer": {"num_bits": 4, "block_sizes": {-1: 128}},
        "*lm_head*": {"enable": False},
        "nn.Embedding": {"*": {"enable": False}},
        "default": {"enable": False},
    }
    found = read("modelopt", _recipe(older), layers=NAMES).assignment
    assert found[UP] == "int4-g128"
    assert found["lm_head"] == found["model.embed_tokens"] == "fp16"


@pytest.mark.parametrize(
    "entry",
    [{"$import": "base_disable_all"}, {"quantizer_name": "*weight_quantizer", "cfg": {"$import": "nvfp4"}}],
)
def test_a_recipe_of_parts_from_other_files_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidInputError, match=r"\$import: it takes '\w+' from another file; write the recipe out"
    ):
        read("modelopt", _recipe([entry]), layers=LAYERS)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"quant_algo": "W4A16_GPTQ", "has_zero_point": True}, "uint4-g128"),
        ({"quant_algo": "W4A16", "group_size": None}, "int4"),
        ({"quant_algo": "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN"}, "int8"),
        ({"quant_algo": "NO_QUANT"}, "fp16"),
    ],
)
def test_algorithms_of_tensorrt_llm_are_read(settings: dict[str, Any], name: str) -> None:
    assert reading("modelopt", {"quantization": settings}).assignment[UP] == name


def test_a_file_of_types_may_begin_with_a_mark_of_its_encoding() -> None:
    found = read("llama.cpp", {"types.txt": "\ufeffffn_up=q6_k\r\nattn_q=q8_0\r\n"}, layers=[UP, QUERY])
    assert found.assignment == {UP: "q6_k", QUERY: "int8-g32"}
    assert found.unused == ()


def test_a_layer_without_a_line_gets_the_base_type_and_lint_says_so() -> None:
    found = lint_files(
        "llama.cpp", {"types.txt": "ffn_up=q8_0\n"}, "llama.cpp", Model({UP: None, QUERY: None})
    )
    assert [(finding.rule, finding.severity, finding.layers) for finding in found] == [
        ("unnamed", "warning", (QUERY,))
    ]
    assert "they get the base type" in found[0].detail


def test_a_recipe_is_not_taken_for_a_type() -> None:
    with pytest.raises(InvalidInputError, match="line 1: 'iq3_xs' is a recipe for a whole model, not a type"):
        read("llama.cpp", {"types.txt": "ffn_up=iq3_xs"}, layers=[UP])


def test_quark_without_settings_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected one of global_quant_config, layer_quant_config"):
        reading("quark", _checkpoint(quant_method="quark"))
