"""compressed-tensors: groups of settings, what is ignored, and what else such a file may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from allocator import InvalidInputError
from quantize.exports import export
from tests.quantize.exports.foreign import LAYERS, reading, short


def _group(targets: list[str], **weights: Any) -> dict[str, Any]:
    return {"targets": targets, "weights": {"num_bits": 4, "type": "int", "symmetric": True} | weights}


def test_one_group_per_format_with_anchored_names() -> None:
    plan = {"a.up": "int4-g64", "a.down": "uint8", "b.up": "int4-g64", "head": "fp16"}
    (text,) = export(plan, "compressed-tensors").files.values()
    config = json.loads(text)["quantization_config"]
    first, second = config["config_groups"].values()
    assert first["targets"] == [r"re:^a\.up$", r"re:^b\.up$"]
    assert first["weights"] == {
        "num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64, "dynamic": False,
    }  # fmt: skip
    assert second["weights"] | {"num_bits": 8, "symmetric": False, "strategy": "channel"} == second["weights"]
    assert config["ignore"] == ["re:^head$"]


def test_patterns_match_from_the_start_and_what_is_ignored_comes_first() -> None:
    groups = {
        "group_0": _group([r"re:.*layers\.0\.mlp\.down_proj$"], num_bits=8, strategy="channel"),
        "group_1": _group([r"re:.*self_attn\.(q|k|v)_proj$", "re:down_proj"], group_size=128),
        "group_2": _group(["Linear"], num_bits=3, group_size=64, symmetric=False),
    }
    document = {"quantization_config": {"config_groups": groups, "ignore": ["lm_head", "re:.*gate_proj"]}}
    found = reading("compressed-tensors", document)
    assert found.unused == ("re:down_proj",)
    assert short(found)["0.mlp.down_proj"] == "int8"
    assert short(found)["1.self_attn.k_proj"] == "int4-g128"
    assert short(found)["1.mlp.down_proj"] == "uint3-g64"
    assert [layer for layer, name in found.assignment.items() if name == "fp16"] == [
        "model.layers.0.mlp.gate_proj",
        "model.layers.1.mlp.gate_proj",
        "lm_head",
    ]


def test_what_a_plan_does_not_hold_is_noted() -> None:
    group = _group(["lm_head"], type="float", num_bits=8) | {"input_activations": {"num_bits": 8}}
    found = reading("compressed-tensors", {"config_groups": {"g": group}, "kv_cache_scheme": {"num_bits": 8}})
    assert short(found) == {"lm_head": "fp8"}
    assert [note.partition(",")[0] for note in found.notes] == [
        "g quantizes activations as well",
        "the KV cache is quantized as well",
    ]


@pytest.mark.parametrize(
    ("preset", "name", "noted"),
    [
        ("FP8_DYNAMIC", "fp8-e4m3", True),
        ("FP8", "fp8", True),
        ("W8A8", "int8-dynamic", False),
        ("W8A16", "int8", False),
        ("MXFP4A16", "mxfp4", False),
        ("MXFP8", "mxfp8", True),
        ("NVFP4A16", "nvfp4", False),
    ],
)
def test_the_presets_of_the_package_are_read(preset: str, name: str, noted: bool) -> None:
    from compressed_tensors.quantization import preset_name_to_scheme

    scheme = preset_name_to_scheme(preset, ["lm_head"]).model_dump(mode="json")
    found = reading("compressed-tensors", {"config_groups": {"g": scheme}})
    assert {layer: kind.partition("-g")[0] for layer, kind in short(found).items()} == {"lm_head": name}
    assert bool(found.notes) == noted


def test_a_group_without_weights_leaves_them_alone() -> None:
    group = {"targets": ["re:.*"], "weights": None, "input_activations": {"num_bits": 8}}
    assert short(reading("compressed-tensors", {"config_groups": {"g": group}})) == {}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"config_groups": {"g": _group(["re:("])}}, r"'\(' is no regular expression"),
        ({"config_groups": {"g": _group([3])}}, r"/targets: expected texts, got int"),  # type: ignore[list-item]
        (
            {"config_groups": {"g": _group(["a"], num_bits=0)}},
            r"/weights/num_bits: expected 1 to 32 bits, got 0",
        ),
        (
            {"config_groups": {"g": _group(["a"], group_size="x")}},
            r"/group_size: expected a whole number, got str 'x'",
        ),
        ({"config_groups": []}, r"/config.json/config_groups: expected a table of names, got list"),
        ({}, r"/config.json/config_groups: expected a table of names, got nothing"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        reading("compressed-tensors", document, LAYERS)


def test_a_class_of_layers_is_taken_by_name() -> None:
    groups = {"a": _group(["Linear"]), "b": _group(["Embedding"], num_bits=8)}
    found = reading(
        "compressed-tensors", {"config_groups": groups}, ["model.embed_tokens", "lm_head", "a.up"]
    )
    assert list(found.assignment.values()) == ["int8", "int4", "int4"]
