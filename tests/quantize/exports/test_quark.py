"""AMD Quark: shell patterns, excluded layers and a global setting."""

from __future__ import annotations

import pytest

from allocator import InvalidInputError
from tests.quantize.exports.foreign import reading, short


def test_a_configuration_is_read() -> None:
    config = {
        "quant_method": "quark",
        "global_quant_config": {"weight": {"dtype": "int4", "qscheme": "per_group", "group_size": 128}},
        "layer_quant_config": {
            "*layers.0.mlp.down_proj": {
                "weight": {"dtype": "fp8_e4m3"},
                "input_tensors": {"dtype": "fp8_e4m3"},
            },
            "*layers.1.mlp.*": {"weight": {"dtype": "uint4", "group_size": 32, "symmetric": False}},
        },
        "exclude": ["lm_head", "*.gate_proj"],
    }
    found = reading("quark", {"quantization_config": config})
    assert short(found)["0.mlp.down_proj"] == "fp8_e4m3"
    assert short(found)["1.mlp.up_proj"] == "uint4-g32"
    assert short(found)["0.mlp.up_proj"] == "int4-g128"
    assert [layer for layer, name in found.assignment.items() if name == "fp16"] == [
        "model.layers.0.mlp.gate_proj",
        "model.layers.1.mlp.gate_proj",
        "lm_head",
    ]
    assert len(found.notes) == 1


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"/lm_head/weight/dtype: unknown dtype 'int5'; known: int2, int3"
    ):
        reading("quark", {"layer_quant_config": {"lm_head": {"weight": {"dtype": "int5"}}}})
