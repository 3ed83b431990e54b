"""GPTQModel: the most common format once, and rules that survive fusion in vLLM."""

from __future__ import annotations

import json
import re

import pytest

from allocator import InvalidInputError
from quantize.exports import export
from tests.quantize.exports.foreign import reading, short

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def _config(plan: dict[str, str]) -> dict[str, object]:
    config: dict[str, object] = json.loads(export(plan, "gptqmodel").files["quantize_config.json"])
    return config


def test_only_exceptions_are_named() -> None:
    plan = {f"l.{index}.down": "int4-g128" for index in range(9)} | {"l.9.down": "uint8", "l.0.norm": "fp16"}
    config = _config(plan)
    assert (config["bits"], config["group_size"], config["sym"]) == (4, 128, True)
    assert config["dynamic"] == {
        r"-:^l\.0\.norm$": {},
        r"+:^l\.9\.down$": {"bits": 8, "group_size": -1, "sym": False},
    }


def test_a_rule_for_shards_also_matches_the_layer_that_vllm_makes_of_them() -> None:
    plan = {f"l.0.{name}": "int8-g32" for name in ATTENTION} | {
        "l.0.o": "int4",
        "l.1.o": "int4",
        "l.2.o": "int4",
        "l.3.o": "int4",
    }
    dynamic = _config(plan)["dynamic"]
    assert isinstance(dynamic, dict)
    ((pattern, settings),) = dynamic.items()
    assert settings == {"bits": 8, "group_size": 32, "sym": True}
    expression = re.compile(pattern.removeprefix("+:"))
    assert all(expression.match(f"l.0.{name}") for name in (*ATTENTION, "self_attn.qkv_proj"))
    assert not any(expression.match(f"l.0.self_attn.{name}") for name in ("o_proj", "q_projx", "x.q_proj"))


def test_shards_that_differ_have_rules_of_their_own() -> None:
    dynamic = _config({"q_proj": "int8", "k_proj": "int4", "v_proj": "int4"})["dynamic"]
    assert dynamic == {"+:^q_proj$": {"bits": 8, "group_size": -1, "sym": True}}


def test_rules_are_read_in_order_and_inherit() -> None:
    dynamic = {
        r"-:.*\.1\.mlp\.gate.*": {},
        r"+:.*\.1\..*gate.*": {"bits": 2},
        r".*\.0\..*gate.*": {"bits": 8, "group_size": 64},
        r"down": {"bits": 3},
    }
    document = {"bits": 4, "group_size": 128, "sym": False, "quant_method": "gptq", "dynamic": dynamic}
    found = reading("gptqmodel", {"quantization_config": document})
    assert short(found)["0.mlp.gate_proj"] == "uint8-g64"
    assert found.assignment["model.layers.1.mlp.gate_proj"] == "fp16"
    assert short(found)["1.mlp.down_proj"] == "uint4-g128"
    assert found.unused == ("down",)


def test_a_configuration_without_bits_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/config.json/bits: expected a whole number, got nothing"):
        reading("gptqmodel", {"dynamic": {}})


def test_the_head_and_embeddings_are_left_alone_unless_the_file_says_otherwise() -> None:
    document = {"bits": 4, "group_size": 128}
    layers = ["lm_head", "model.embed_tokens", "model.layers.0.mlp.up_proj"]
    found = reading("gptqmodel", document, layers).assignment
    assert list(found.values()) == ["fp16", "fp16", "int4-g128"]
    found = reading("gptqmodel", document | {"lm_head": True}, layers).assignment
    assert list(found.values()) == ["int4-g128", "fp16", "int4-g128"]


def test_an_embedding_is_lost() -> None:
    plan = {"model.embed_tokens": "int4", "up": "int4"}
    (loss,) = export(plan, "gptqmodel").losses
    assert str(loss) == "model.embed_tokens: int4 becomes fp16: it quantizes Linear and Conv layers only"
    assert export({"model.embed_tokens": "fp16", "up": "int4"}, "gptqmodel").losses == ()


def test_experts_of_a_block_share_a_rule_that_matches_the_block() -> None:
    experts = [f"l.0.experts.{index}.{part}" for index in (0, 1, 11) for part in ("up_proj", "down_proj")]
    plan = dict.fromkeys(experts, "int8") | dict.fromkeys([f"l.{index}.up" for index in range(9)], "int4")
    ((pattern, settings),) = _config(plan)["dynamic"].items()  # type: ignore[attr-defined]
    assert settings["bits"] == 8
    expression = re.compile(pattern.removeprefix("+:"))
    assert all(expression.match(name) for name in [*experts, "l.0.experts"])
    assert not any(
        expression.match(name)
        for name in ("l.0.shared_experts", "l.0.experts_gate", "l.10.experts.0.up_proj")
    )
    mixed = _config(plan | {experts[0]: "int2"})["dynamic"]
    assert isinstance(mixed, dict)
    assert len(mixed) == len(experts)


def test_an_awq_checkpoint_says_what_is_left_alone_and_that_codes_have_zero_points() -> None:
    config = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    found = reading(
        "gptqmodel", {"quantization_config": config | {"modules_to_not_convert": ["q_proj", "layers.1."]}}
    )
    assert set(short(found).values()) == {"uint4-g128"}
    assert not [layer for layer in short(found) if "q_proj" in layer or layer.startswith("1.")]
    found = reading("gptqmodel", {"quantization_config": config | {"zero_point": False}})
    assert set(short(found).values()) == {"int4-g128"}


@pytest.mark.parametrize(
    "stages", [[["self_attn.q_proj"], ["mlp.up_proj"]], ["self_attn.q_proj", "mlp.up_proj"]]
)
def test_modules_in_a_block_that_are_not_named_are_left_alone(stages: list[object]) -> None:
    config = {"quant_method": "gptq", "bits": 4, "group_size": 64, "modules_in_block_to_quantize": stages}
    found = reading("gptqmodel", {"quantization_config": config})
    assert sorted(short(found)) == [
        "0.mlp.up_proj",
        "0.self_attn.q_proj",
        "1.mlp.up_proj",
        "1.self_attn.q_proj",
    ]


def test_stages_that_are_no_texts_are_refused() -> None:
    config = {"bits": 4, "group_size": 64, "modules_in_block_to_quantize": [[4]]}
    with pytest.raises(InvalidInputError, match="modules_in_block_to_quantize: expected texts"):
        reading("gptqmodel", config)
