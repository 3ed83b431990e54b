"""torchao itself loads our file and quantizes as the plan says; its own files are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from quantize import apply
from quantize.exports import export
from tests.quantize.exports.foreign import reading, short
from tests.quantize.models import Tokens


def _config(bits: int, **data: Any) -> dict[str, Any]:
    weight = {"_type": "torch.dtype", "_data": f"int{bits}"}
    return {"_type": "IntxWeightOnlyConfig", "_version": 2, "_data": {"weight_dtype": weight, **data}}


def _loaded(plan: dict[str, str]) -> Any:
    from torchao.core.config import config_from_dict

    return config_from_dict(json.loads(export(plan, "torchao").files["torchao_config.json"]))


def test_torchao_quantizes_to_the_formats_of_the_backend_with_scales_of_its_own() -> None:
    from torchao.quantization import quantize_

    plan = {"up": "int4-g16", "down": "int3"}
    original = Tokens().eval()
    ours = apply(original, plan, "torchao")
    theirs = Tokens().eval()
    quantize_(theirs, _loaded({**plan, "embed": "fp32"}), filter_fn=None)
    for name, bits in (("up", 4), ("down", 3)):
        made, found = ours.get_submodule(name).weight, theirs.get_submodule(name).weight
        assert (made.target_dtype, made.block_size) == (found.target_dtype, found.block_size)
        weight = original.get_submodule(name).weight.detach()
        groups = weight.reshape(len(weight), -1, made.block_size[1])
        scale = groups.abs().amax(-1, keepdim=True) / (
            (2**bits - 1) / 2
        )  # positive, whatever its extreme weight
        codes = (groups * (1 / scale)).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert torch.equal(found.qdata, codes.reshape(weight.shape).to(torch.int8))
        errors = [(item.dequantize() - weight).square().sum() for item in (made, found)]
        assert errors[0] < 0.9 * errors[1]
    assert type(theirs.embed.weight) is nn.Parameter


@pytest.mark.parametrize("name", ["fp8-e4m3", "int8-dynamic", "mxfp8", "mxfp4"])
def test_other_kinds_are_those_of_the_backend(name: str) -> None:
    from torchao.quantization import quantize_
    from torchao.quantization.quantize_.common import KernelPreference

    model = nn.Sequential(nn.Linear(64, 32, bias=False)).to(torch.bfloat16 if "mx" in name else torch.float32)
    config = _loaded({"0": name})
    if "mx" in name:  # no kernel on a CPU
        config.fqn_to_config["0"].kernel_preference = KernelPreference.EMULATED
    theirs = nn.Sequential(nn.Linear(64, 32, bias=False)).to(model[0].weight.dtype)
    theirs.load_state_dict(model.state_dict())
    quantize_(theirs, config, filter_fn=None)
    inputs = torch.randn(3, 64, dtype=model[0].weight.dtype)
    ours = apply(model, {"0": name}, "torchao")
    assert type(ours[0].weight) is type(theirs[0].weight)
    assert not torch.equal(theirs(inputs), model(inputs))
    if name == "int8-dynamic":  # its scales are its own: each weight is within half a step of both
        step = theirs[0].weight.scale.abs().reshape(-1, 1)
        assert ((ours[0].weight.dequantize() - theirs[0].weight.dequantize()).abs() <= 1.1 * step).all()
    else:
        assert torch.equal(ours(inputs), theirs(inputs))


def test_torchao_writes_what_we_write() -> None:
    from torchao.core.config import config_to_dict

    plan = {"up": "uint5-g64", "down": "int8", "head": "fp16", "a": "fp8-e4m3", "b": "int8-dynamic"}
    plan |= {"c": "mxfp8", "d": "mxfp4"}
    theirs = config_to_dict(_loaded(plan))
    theirs["_data"].pop("module_fqn_to_config")
    assert theirs == json.loads(export(plan, "torchao").files["torchao_config.json"])


def test_a_zero_point_is_kept() -> None:
    from torchao.quantization import quantize_

    model = nn.Sequential(nn.Linear(64, 8))
    with torch.no_grad():
        model[0].weight.add_(1.0)
    quantize_(model, _loaded({"0": "uint4-g32"}), filter_fn=None)
    assert int(model[0].weight.zero_point.abs().max()) > 0


def test_patterns_come_after_names_and_match_in_full() -> None:
    layers = {
        "re:model\\.layers\\.\\d+\\.mlp\\.(gate|up)_proj": _config(4),
        "re:model\\..*": _config(2),
        "re:mlp": _config(7),
        "model.layers.0.mlp.up_proj": _config(
            8, granularity={"_type": "PerGroup", "_data": {"group_size": 32}}
        ),
        "lm_head": None,
    }
    found = reading("torchao", {"_type": "FqnToConfig", "_data": {"fqn_to_config": layers}})
    assert found.assignment["model.layers.0.mlp.up_proj"] == "int8-g32"
    assert found.assignment["model.layers.1.mlp.up_proj"] == "int4"
    assert found.assignment["model.layers.1.mlp.down_proj"] == "int2"
    assert found.assignment["lm_head"] == "fp16"
    assert found.unused == ("re:mlp",)


def test_the_quantization_config_of_transformers_is_read() -> None:
    inner = {
        "_type": "FqnToConfig",
        "_data": {"module_fqn_to_config": {"lm_head": _config(8), "_default": _config(4)}},
    }
    document = {"quantization_config": {"quant_method": "torchao", "quant_type": {"default": inner}}}
    found = reading("torchao", document)
    assert found.assignment["lm_head"] == "int8"
    assert set(short(found).values()) == {"int8", "int4"}
    assert found.notes == ("_default covers Linear modules only",)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"_type": "Int8WeightOnlyConfig", "_data": {}}, "int8"),
        ({"_type": "Int8DynamicActivationInt8WeightConfig", "_data": {}}, "int8-dynamic"),
        ({"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}, "uint4-g64"),
        ({"_type": "Float8WeightOnlyConfig", "_data": {}}, "fp8-e4m3"),
        ({"_type": "Float8WeightOnlyConfig", "_data": {"granularity": {"_type": "PerTensor"}}}, "fp8_e4m3"),
        (
            {"_type": "Float8WeightOnlyConfig", "_data": {"weight_dtype": {"_data": "float8_e5m2"}}},
            "fp8_e5m2",
        ),
        ({"_type": "Float8DynamicActivationFloat8WeightConfig", "_data": {}}, "fp8_e4m3"),
        ({"_type": "MXDynamicActivationMXWeightConfig", "_data": {}}, "mxfp8"),
        (_config(6, mapping_type={"_type": "MappingType", "_data": "ASYMMETRIC"}), "uint6"),
    ],
)
def test_other_configurations_are_read(config: dict[str, Any], name: str) -> None:
    found = reading("torchao", {"_data": {"fqn_to_config": {"lm_head": config}}}, None)
    assert found.assignment == {"lm_head": name}


@pytest.mark.parametrize(
    "config",
    [
        {"_type": "UIntXWeightOnlyConfig"},
        _config(9),
        {"_type": None},
        {"_type": "MXDynamicActivationMXWeightConfig", "_data": {"weight_dtype": {"_data": "float8_e5m2"}}},
    ],
)
def test_configurations_nobody_knows_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"/config.json/lm_head: cannot read the configuration"):
        reading("torchao", {"_data": {"fqn_to_config": {"lm_head": config}}}, None)


def _uniform(config: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": "torchao", "quant_type": {"default": config}, **more}}


@pytest.mark.parametrize("wrapped", [True, False])
def test_one_configuration_is_for_all_linear_modules(wrapped: bool) -> None:
    from torchao.core.config import config_to_dict
    from torchao.quantization import Int4WeightOnlyConfig

    config = config_to_dict(Int4WeightOnlyConfig(group_size=64))
    layers = ["model.embed_tokens", "model.layers.0.mlp.up_proj", "lm_head"]
    found = reading("torchao", _uniform(config) if wrapped else config, layers)
    # quantize_ takes the head; transformers passes it over.
    head = "fp16" if wrapped else "uint4-g64"
    assert list(found.assignment.values()) == ["fp16", "uint4-g64", head]


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"modules_to_not_convert": []}, {"model.embed_tokens"}),
        ({"include_input_output_embeddings": True}, set()),
        ({"modules_to_not_convert": ["lm_head"]}, {"model.embed_tokens", "lm_head"}),
        ({"modules_to_not_convert": ["up_proj"]}, {"model.embed_tokens", "model.layers.1.mlp.up_proj"}),
        (
            {"modules_to_not_convert": ["model.layers.1"]},
            {
                "model.embed_tokens",
                *(f"model.layers.1.mlp.{part}" for part in ("up_proj", "gate_proj", "gate")),
            },
        ),
        (
            {"modules_to_not_convert": ["model.layers.*.mlp.gate"]},
            {"model.embed_tokens", "model.layers.1.mlp.gate"},
        ),
    ],
)
def test_modules_that_transformers_passes_over_are_left_alone(more: dict[str, Any], kept: set[str]) -> None:
    layers = ["model.embed_tokens", "lm_head", "model.layers.11.mlp.down_proj"]
    layers += [f"model.layers.1.mlp.{part}" for part in ("up_proj", "gate_proj", "gate")]
    found = reading("torchao", _uniform({"_type": "Int8WeightOnlyConfig", "_data": {}}, **more), layers)
    assert {layer for layer, name in found.assignment.items() if name == "fp16"} == kept


def test_a_list_comes_before_names_and_the_default() -> None:
    inner = {"_type": "FqnToConfig", "_data": {"fqn_to_config": {"_default": _config(4)}}}
    found = reading("torchao", _uniform(inner, modules_to_not_convert=["mlp.up_proj"]))
    assert short(found)["0.mlp.down_proj"] == "int4"
    assert "0.mlp.up_proj" not in short(found)


def test_what_torchao_writes_for_rounded_inputs_is_read() -> None:
    from torchao.core.config import config_to_dict
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationIntxWeightConfig,
        PerGroup,
        PerRow,
    )

    floats = config_to_dict(Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
    found = reading("torchao", _uniform(floats))
    assert found.assignment["model.layers.0.mlp.up_proj"] == "fp8_e4m3"
    codes = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(64))
    found = reading("torchao", _uniform(config_to_dict(codes)))
    assert found.assignment["model.layers.0.mlp.up_proj"] == "int4-g64"
    assert found.notes == (
        "Int8DynamicActivationIntxWeightConfig rounds inputs to 8 bits too; only weights are read",
    )
    old = {"_type": "Int8DynamicActivationInt4WeightConfig", "_version": 1, "_data": {"group_size": 32}}
    assert reading("torchao", _uniform(old)).assignment["model.layers.0.mlp.up_proj"] == "int4-g32"


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"modules_to_not_convert.*is no regular expression"):
        reading("torchao", _uniform(_config(4), modules_to_not_convert=["mlp.("]))


def test_no_names_at_all_leave_every_module_alone() -> None:
    document = {"_type": "FqnToConfig", "_data": {"fqn_to_config": {}}}
    assert short(reading("torchao", document)) == {}
