"""NNCF: passes that exclude each other's nodes, by pattern or by name."""

from __future__ import annotations

import json

import pytest

from allocator import InvalidInputError
from quantize.exports import export
from tests.quantize.exports.foreign import reading, short


def test_each_pass_ignores_all_nodes_but_its_own() -> None:
    plan = {"a.1": "int4-g64", "a.11": "int8", "b": "int4-g64", "c": "fp16"}
    (text,) = export(plan, "nncf").files.values()
    four, eight = json.loads(text)["passes"]
    assert (four["mode"], four["group_size"], four["ratio"], four["all_layers"]) == (
        "int4_sym",
        64,
        1.0,
        True,
    )
    assert eight.keys() == {"mode", "ignored_scope", "nodes"}
    assert four["ignored_scope"] == {"names": ["a.11", "c"], "validate": False}
    assert eight["ignored_scope"] == {"names": ["a.1", "b", "c"], "validate": False}


def test_three_bits_come_last_for_nothing_can_come_after_them() -> None:
    plan = {"a": "int3-g64", "b": "fp8-e4m3", "c": "int4-g64", "d": "mxfp4"}
    (text,) = export(plan, "nncf").files.values()
    assert [item["mode"] for item in json.loads(text)["passes"]] == [
        "fp8_e4m3",
        "int4_sym",
        "mxfp4",
        "int3_sym",
    ]


def test_passes_of_others_are_read() -> None:
    passes = [
        {"mode": "int8_asym", "ignored_scope": {"patterns": ["down_proj$"], "names": ["lm_head"]}},
        {"mode": "nf4", "group_size": 64},
    ]
    found = reading("nncf", {"passes": passes})
    assert found.assignment["model.layers.0.mlp.up_proj"] == "uint8"
    assert short(found)["0.mlp.down_proj"] == short(found)["lm_head"] == "nf4"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"/config.json/passes/0/mode: unknown mode 'int5_sym'; known: int8"
    ):
        reading("nncf", {"passes": [{"mode": "int5_sym"}]})
