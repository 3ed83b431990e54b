"""ModelOpt: recipes and checkpoints."""

from __future__ import annotations

import pytest
import yaml

from allocator import InvalidInputError
from quantize.exports import export, read
from tests.quantize.exports.foreign import LAYERS, reading, short


def test_everything_is_off_but_what_the_plan_names() -> None:
    (text,) = export({"a[0]": "int4-g64", "b": "int8", "c": "fp16"}, "modelopt").files.values()
    assert yaml.safe_load(text)["quantize"]["quant_cfg"] == [
        {"quantizer_name": "*", "enable": False},
        {
            "quantizer_name": "a[[]0].weight_quantizer",
            "enable": True,
            "cfg": {"num_bits": 4, "block_sizes": {-1: 64}},
        },
        {"quantizer_name": "b.weight_quantizer", "enable": True, "cfg": {"num_bits": 8, "axis": 0}},
        {"quantizer_name": "c.weight_quantizer", "enable": False},
    ]


def test_later_entries_of_a_recipe_win() -> None:
    entries = [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 128}}},
        {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8}},
        {"quantizer_name": "*lm_head*weight_quantizer", "enable": False},
        {"quantizer_name": "*.down_proj.weight_quantizer", "cfg": {"num_bits": [4, 3]}},
        {"quantizer_name": "*.1.mlp.up_proj.weight_quantizer", "cfg": {"num_bits": "e2m1"}},
        {"quantizer_name": "*.1.mlp.gate_proj.weight_quantizer", "cfg": {"num_bits": [4, 3], "axis": 0}},
        {
            "quantizer_name": "*.0.mlp.gate_proj.weight_quantizer",
            "cfg": {"num_bits": [2, 1], "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": [8, 0]}},
        },
    ]
    text = yaml.safe_dump({"quantize": {"algorithm": "max", "quant_cfg": entries}})
    found = read("modelopt", {"recipe.yaml": text}, layers=LAYERS).assignment
    assert found["lm_head"] == "fp16"
    assert found["model.layers.0.mlp.down_proj"] == "fp8_e4m3"
    assert found["model.layers.1.mlp.up_proj"] == "fp4_e2m1"
    assert found["model.layers.1.mlp.gate_proj"] == "fp8-e4m3"
    assert found["model.layers.0.mlp.gate_proj"] == "mxfp4"
    assert found["model.layers.0.mlp.up_proj"] == "int4-g128"


def test_a_checkpoint_is_read() -> None:
    quantization = {
        "quant_algo": "MIXED_PRECISION",
        "kv_cache_quant_algo": "FP8",
        "quantized_layers": {
            "model.layers.0.self_attn.q_proj": {"quant_algo": "NVFP4", "group_size": 16},
            "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"},
            "model.layers.0.mlp.up_proj": {"quant_algo": "W4A16_AWQ", "group_size": 64},
            "model.layers.1.mlp.up_proj": {"quant_algo": "W8A16"},
        },
        "exclude_modules": ["lm_head"],
    }
    found = reading("modelopt", {"producer": {"name": "modelopt"}, "quantization": quantization})
    assert short(found) == {
        "0.self_attn.q_proj": "nvfp4", "0.mlp.down_proj": "fp8", "0.mlp.up_proj": "int4-g64", "1.mlp.up_proj": "int8",
    }  # fmt: skip
    assert found.notes == ("the KV cache is quantized as well",)


def test_a_checkpoint_of_one_algorithm_is_read() -> None:
    found = reading(
        "modelopt", {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head", "*.up_proj"]}}
    )
    assert set(short(found).values()) == {"nvfp4"}
    assert {layer for layer, name in found.assignment.items() if name == "fp16"} == {
        "lm_head", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj",
    }  # fmt: skip


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"/quant_algo: unknown algorithm 'W3A3'; known: FP8, FP8_PER_CHANNEL"
    ):
        reading("modelopt", {"quantization": {"quant_algo": "W3A3"}})
