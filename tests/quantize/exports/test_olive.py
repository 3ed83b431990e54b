"""Olive: checkpoints and the information of its mixed precision pass."""

from __future__ import annotations

import pytest

from allocator import InvalidInputError
from quantize.exports.documents import integer
from tests.quantize.exports.foreign import reading, short


def test_mixed_precision_info_is_read() -> None:
    document = {
        "default": {"bits": 4, "group_size": 128, "symmetric": False},
        "overrides": {
            "lm_head": {"bits": 8},
            "model.layers.0.mlp.down_proj": {"group_size": -1, "symmetric": True},
        },
    }
    found = short(reading("olive", {"mixed_precision_info": document}))
    assert found["lm_head"] == "uint8-g128"
    assert found["0.mlp.down_proj"] == "int4"
    assert found["1.mlp.down_proj"] == integer(4, 128, symmetric=False).name


def test_a_file_without_bits_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/config.json/bits: expected a whole number, got nothing"):
        reading("olive", {"overrides": {}})


def test_the_head_and_embeddings_follow_their_switches() -> None:
    config = {"quant_method": "olive", "bits": 4, "group_size": 32, "symmetric": True}
    layers = ["lm_head", "model.embed_tokens", "up"]
    assert list(reading("olive", config, layers).assignment.values()) == ["fp16", "fp16", "int4-g32"]
    on = config | {"lm_head": True, "embeds": True}
    assert set(reading("olive", on, layers).assignment.values()) == {"int4-g32"}
