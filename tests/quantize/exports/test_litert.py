"""LiteRT: recipes, in which later entries win."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from allocator import InvalidInputError
from quantize.exports import export
from tests.quantize.exports.foreign import reading


def _entry(regex: str, **weight: Any) -> dict[str, Any]:
    return {"regex": regex, "operation": "*", "algorithm_key": "min_max_uniform_quantize",
            "op_config": {"weight_tensor_config": weight}}  # fmt: skip


def test_a_name_stands_alone_among_separators() -> None:
    (text,) = export({"layers_1/up": "int8"}, "litert").files.values()
    (entry,) = json.loads(text)
    names = [
        "layers_1/up",
        "model/layers_1/up/dot;",
        "x;layers_1/up;",
        "layers_1/upper",
        "xlayers_1/up",
        "layers_11/up",
    ]
    assert [name for name in names if re.search(entry["regex"], name)] == names[:3]


def test_the_last_entry_wins() -> None:
    document = [
        _entry(".*", num_bits=8, granularity="CHANNELWISE"),
        _entry("down", num_bits=4, granularity="BLOCKWISE_64", symmetric=False),
        _entry("lm_head", num_bits=16, dtype="FLOAT"),
        _entry("0.mlp.up_proj") | {"algorithm_key": "no_quantize"},
    ]
    document[0]["op_config"]["activation_tensor_config"] = {"num_bits": 8}
    found = reading("litert", document)
    assert found.assignment["model.layers.0.mlp.down_proj"] == "uint4-g64"
    assert found.assignment["model.layers.0.mlp.gate_proj"] == "int8"
    assert found.assignment["model.layers.0.mlp.up_proj"] == "fp16"
    assert found.assignment["lm_head"] == "fp16"
    assert found.notes == (".* quantizes activations as well, which a plan of weights does not hold",)


def test_an_unknown_granularity_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"weight_tensor_config/granularity: unknown granularity 'SOMEWISE'"
    ):
        reading("litert", [_entry("a", num_bits=4, granularity="somewise")])
