"""auto-round: what goes in, and what its checkpoints say."""

from __future__ import annotations

import json

import pytest

from allocator import InvalidInputError
from quantize.exports import export
from tests.quantize.exports.foreign import reading, short


def test_every_layer_is_named_with_all_settings() -> None:
    (text,) = export({"up": "int4-g64", "down": "uint3", "head": "fp16"}, "auto-round").files.values()
    assert json.loads(text) == {
        "up": {"bits": 4, "group_size": 64, "sym": True, "data_type": "int", "act_bits": 16},
        "down": {"bits": 3, "group_size": -1, "sym": False, "data_type": "int", "act_bits": 16},
        "head": {"bits": 16, "act_bits": 16, "data_type": "float"},
    }


def test_a_checkpoint_is_read() -> None:
    config = {
        "quant_method": "auto-round",
        "bits": 4,
        "group_size": 128,
        "sym": True,
        "extra_config": {
            ".*k_proj.*": {"bits": 8},
            ".*layers.0.*": {"bits": 2},
            "model.layers.0.mlp.down_proj": {"bits": 8, "group_size": 32},
            "lm_head": {"bits": 16},
            "model.layers.1.mlp.up_proj": {"bits": 4, "data_type": "mx_fp", "group_size": 32},
        },
    }
    found = short(reading("auto-round", {"quantization_config": config}))
    assert found["0.mlp.down_proj"] == "int8-g32"
    assert found["1.self_attn.k_proj"] == found["0.self_attn.k_proj"] == "int8-g128"
    assert found["0.mlp.up_proj"] == "int2-g128"
    assert found["1.self_attn.q_proj"] == "int4-g128"
    assert found["1.mlp.up_proj"] == "mxfp4"
    assert "lm_head" not in found


def test_a_layer_config_without_settings_takes_those_of_w4a16() -> None:
    assert reading("auto-round", {"up": {"bits": 4}}, None).assignment == {"up": "int4-g128"}


def test_settings_that_are_none_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"/config.json/up: unknown scheme 'W4A17'; known: W2A16 to W8A16"
    ):
        reading("auto-round", {"up": "W4A17"}, None)
    with pytest.raises(InvalidInputError, match=r"/config.json/up: expected a table of names, got int '4'"):
        reading("auto-round", {"up": 4}, None)
