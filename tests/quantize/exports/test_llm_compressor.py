"""llm-compressor: recipes with any modifier."""

from __future__ import annotations

import sys

import pytest
import yaml

from allocator import InvalidInputError, MissingPackageError
from quantize.exports import export, read
from tests.quantize.exports.foreign import LAYERS

RECIPE = r"""
quant_stage:
  quant_modifiers:
    GPTQModifier:
      ignore: ["lm_head"]
      config_groups:
        group_0:
          weights: {num_bits: 8, type: int, strategy: group, group_size: 128, dynamic: false, symmetric: true}
          targets: ["re:.*layers\\.0\\.mlp\\.down_proj$"]
        group_1:
          weights: {num_bits: 4, type: int, strategy: group, group_size: 128, symmetric: false}
          targets: ["re:.*self_attn\\.(q|k|v)_proj$"]
"""


def test_a_recipe_is_read() -> None:
    found = read("llm-compressor", {"recipe.yaml": RECIPE}, layers=LAYERS).assignment
    assert found["model.layers.0.mlp.down_proj"] == "int8-g128"
    assert found["model.layers.1.self_attn.q_proj"] == "uint4-g128"
    assert found["lm_head"] == "fp16"


def test_names_survive_yaml() -> None:
    (text,) = export({"a.0.up": "int4", "on": "int8", "b": "fp16"}, "llm-compressor").files.values()
    modifier = yaml.safe_load(text)["quant_stage"]["quant_modifiers"]["QuantizationModifier"]
    assert [group["targets"] for group in modifier["config_groups"].values()] == [
        [r"re:^a\.0\.up$"],
        ["re:^on$"],
    ]
    assert modifier["ignore"] == ["re:^b$"]


def test_two_modifiers_are_refused() -> None:
    document = {"one": {"config_groups": {}}, "two": {"config_groups": {}}}
    with pytest.raises(InvalidInputError, match="expected one modifier with config_groups, found 2"):
        read("llm-compressor", {"recipe.yaml": yaml.safe_dump(document)})


def test_yaml_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/recipe.yaml: expected YAML: "):
        read("llm-compressor", {"recipe.yaml": "a: ["})


def test_a_missing_yaml_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'bitalloc\[exports\]'"):
        export({"up": "int4"}, "llm-compressor")
