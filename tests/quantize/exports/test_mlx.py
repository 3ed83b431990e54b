"""MLX: defaults, exceptions and other modes."""

from __future__ import annotations

import json

from quantize.exports import export
from tests.quantize.exports.foreign import reading, short


def test_only_exceptions_are_named() -> None:
    plan = {"a": "uint4-g64", "b": "uint6-g64", "c": "uint4-g64", "lm_head": "fp16"}
    (text,) = export(plan, "mlx").files.values()
    assert json.loads(text) == {
        "quantization": {
            "group_size": 64,
            "bits": 4,
            "mode": "affine",
            "b": {"group_size": 64, "bits": 6, "mode": "affine"},
            "lm_head": False,
        }
    }


def test_a_symmetric_format_gains_a_zero_point_and_says_so() -> None:
    (loss,) = export({"a": "int4-g64"}, "mlx").losses
    assert (loss.wanted, loss.instead) == ("int4-g64", "uint4-g64")


def test_a_layer_called_like_a_setting_is_lost() -> None:
    losses = export({"bits": "uint4-g64", "up": "uint4-g64"}, "mlx").losses
    assert [loss.layer for loss in losses] == ["bits"]


def test_other_modes_and_switches_are_read() -> None:
    document = {
        "model_type": "llama",
        "quantization": {
            "group_size": 32,
            "bits": 4,
            "mode": "mxfp4",
            "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 6},
            "model.layers.0.mlp.up_proj": True,
            "model.layers.1.mlp.up_proj": {"mode": "nvfp4"},
            "lm_head": False,
        },
    }
    found = reading("mlx", document)
    assert short(found)["0.mlp.down_proj"] == "uint6-g64"
    assert short(found)["0.mlp.up_proj"] == short(found)["1.self_attn.q_proj"] == "mxfp4"
    assert short(found)["1.mlp.up_proj"] == "nvfp4"
    assert found.formats["model.layers.1.mlp.up_proj"].group_size == 16
    assert found.assignment["lm_head"] == "fp16"
