"""llm-compressor: recipes with any modifier."""

from __future__ import annotations

import sys

import pytest
import yaml

from allocator import InvalidInputError, MissingPackageError
from quantize.exports import export, read
from quantize.lint import Model, lint_files
from tests.quantize.exports.foreign import LAYERS, reading

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


SCHEMES = """
quant_stage:
  quant_modifiers:
    SmoothQuantModifier: {{smoothing_strength: 0.8}}
    GPTQModifier:
      ignore: ["lm_head", "re:.*layers[.]1[.]mlp.*"]
      {}
"""


@pytest.mark.parametrize(
    ("given", "up", "query"),
    [
        ("scheme: W4A16", "int4-g128", "int4-g128"),
        ("scheme: W8A8\n      targets: Linear", "int8-dynamic", "int8-dynamic"),
        ("scheme: w4a16_asym\n      targets: ['re:.*mlp.*']", "uint4-g128", "fp16"),
        ("scheme: {FP8_DYNAMIC: ['re:.*self_attn.*'], NVFP4: 're:.*mlp.*'}", "nvfp4", "fp8-e4m3"),
        ("kv_cache_scheme: {num_bits: 8, type: float}", "fp16", "fp16"),
    ],
)
def test_a_scheme_by_name_is_read(given: str, up: str, query: str) -> None:
    found = read("llm-compressor", {"recipe.yaml": SCHEMES.format(given)}, layers=LAYERS).assignment
    assert found["model.layers.0.mlp.up_proj"] == up
    assert found["model.layers.0.self_attn.q_proj"] == query
    assert found["lm_head"] == found["model.layers.1.mlp.up_proj"] == "fp16"


def test_of_several_modifiers_the_last_has_a_layer_unless_it_ignores_it() -> None:
    recipe = {
        "quant_stage": {
            "quant_modifiers": {
                "QuantizationModifier": {"scheme": "W8A8", "targets": ["Linear"]},
                "GPTQModifier": {
                    "scheme": "W4A16",
                    "targets": ["re:.*mlp.*", "lm_head"],
                    "ignore": ["lm_head", "re:.*layers[.]1[.].*"],
                },
            }
        }
    }
    text = yaml.safe_dump(recipe, sort_keys=False)
    found = read("llm-compressor", {"recipe.yaml": text}, layers=LAYERS)
    assert found.assignment["model.layers.0.mlp.up_proj"] == "int4-g128"
    assert found.assignment["model.layers.0.self_attn.q_proj"] == "int8-dynamic"
    assert found.assignment["model.layers.1.mlp.up_proj"] == found.assignment["lm_head"] == "int8-dynamic"
    assert found.unused == ()


def test_schemes_are_those_of_the_package() -> None:
    schemes = pytest.importorskip("compressed_tensors.quantization.quant_scheme")
    for name in schemes.PRESET_SCHEMES:
        theirs = schemes.preset_name_to_scheme(name, ["Linear"]).model_dump(mode="json")
        found = (
            reading("compressed-tensors", {"config_groups": groups}).assignment
            for groups in ({"g": theirs}, {name: ["Linear"]})
        )
        assert next(found) == next(found), name


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"SmoothQuantModifier": {"smoothing_strength": 0.8}},
            "expected a modifier with a scheme .* found none",
        ),
        ({"M": {"scheme": "W5A99"}}, "/M/scheme: unknown scheme 'W5A99'; known: UNQUANTIZED, W8A8"),
        ({"M": {"scheme": "W4A16", "config_groups": {}}}, "/M: expected a scheme or config_groups, got both"),
    ],
)
def test_a_recipe_without_formats_is_refused(recipe: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read("llm-compressor", {"recipe.yaml": yaml.safe_dump(recipe)}, layers=LAYERS)


def test_what_a_recipe_makes_is_linted_for_who_loads_it() -> None:
    shapes: dict[str, tuple[int, ...] | None] = dict.fromkeys(LAYERS, (192, 192))
    found = lint_files(
        "llm-compressor", {"recipe.yaml": SCHEMES.format("scheme: W4A16")}, "vllm", Model(shapes)
    )
    assert {finding.rule for finding in found if finding.severity == "error"} == {"group-sizes"}
    found = lint_files(
        "llm-compressor", {"recipe.yaml": SCHEMES.format("scheme: W4A16")}, "llama.cpp", Model(shapes)
    )
    assert found[0].rule == "unreadable"


def test_yaml_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/recipe.yaml: expected YAML: "):
        read("llm-compressor", {"recipe.yaml": "a: ["})


def test_a_missing_yaml_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'bitalloc\[exports\]'"):
        export({"up": "int4"}, "llm-compressor")
