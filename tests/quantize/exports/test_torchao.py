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


def test_torchao_quantizes_as_the_backend_does() -> None:
    from torchao.quantization import quantize_

    plan = {"up": "int4-g16", "down": "int3"}
    ours = apply(Tokens().eval(), plan, "torchao")
    theirs = Tokens().eval()
    quantize_(theirs, _loaded({**plan, "embed": "fp32"}), filter_fn=None)
    for name in plan:
        ours_weight, theirs_weight = ours.get_submodule(name).weight, theirs.get_submodule(name).weight
        assert torch.equal(ours_weight.qdata, theirs_weight.qdata)
        assert torch.equal(ours_weight.scale, theirs_weight.scale.to(torch.float16))
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
    # Scales of integers are narrowed to what is stored.
    off = (theirs(inputs) - apply(model, {"0": name}, "torchao")(inputs)).abs().max()
    moved = (theirs(inputs) - model(inputs)).abs().max()
    assert off <= (0.1 * moved if name == "int8-dynamic" else 0)
    assert moved > 0


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
