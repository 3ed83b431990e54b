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
