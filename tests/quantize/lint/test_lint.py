"""What each runtime trips over, in plans and in anybody's files."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from allocator import InvalidInputError, solve
from quantize.exports import EXPORTS, export
from quantize.lint import RUNTIMES, Finding, Model, lint_files, lint_plan
from tests.api.helpers import tiny

BLOCK = "model.layers.0"
QKV = tuple(f"{BLOCK}.self_attn.{name}_proj" for name in "qkv")
SHAPES: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(QKV, (256, 256)),
    f"{BLOCK}.mlp.gate_proj": (512, 256),
    f"{BLOCK}.mlp.up_proj": (512, 256),
    f"{BLOCK}.mlp.down_proj": (256, 512),
    "model.embed_tokens": (1000, 256),
    "lm_head": (1000, 256),
}
MODEL = Model(SHAPES, (("model.embed_tokens", "lm_head"),))
#: A plan that every runtime here runs: in its own formats, embeddings and head left alone.
CLEAN = dict.fromkeys([layer for layer in SHAPES if "proj" in layer], "int4-g32")


def _rules(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(found.severity, found.rule) for found in findings]


def _plan(**changes: str) -> dict[str, str]:
    return CLEAN | {f"{BLOCK}.{part.replace('__', '.')}": name for part, name in changes.items()}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_good_plan_passes(runtime: str) -> None:
    assert lint_plan(CLEAN, runtime, MODEL) == ()


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
@pytest.mark.parametrize("other", ["int8-g32", "fp16"])
def test_shards_that_differ_are_errors_where_they_fuse(runtime: str, other: str) -> None:
    (found,) = lint_plan(_plan(self_attn__v_proj=other), runtime, MODEL)
    assert (found.severity, found.rule, found.layers) == ("error", "fused-shards", QKV)
    assert found.detail.endswith(f"its shards have int4-g32, {other}")
    assert lint_plan(_plan(self_attn__v_proj="int8-g32"), "llama.cpp", MODEL) == ()


@pytest.mark.parametrize(
    ("runtime", "severity"),
    [("vllm", "error"), ("sglang", "error"), ("torchao", "error"), ("llama.cpp", "error")],
)
def test_groups_that_do_not_divide_the_row_are_found(runtime: str, severity: str) -> None:
    model = Model({"down": (64, 80), "up": (64, 96)})
    found = [
        item
        for item in lint_plan(dict.fromkeys(("down", "up"), "int4-g32"), runtime, model)
        if item.rule == "group-sizes"
    ]
    assert [(item.severity, item.layers) for item in found] == [(severity, ("down",))]
    assert "80" in found[0].detail
    assert lint_plan({"down": "int4-g32"}, "onnxruntime", model) == ()  # rows are padded


def test_the_advice_names_a_group_that_divides() -> None:
    model = Model({"a": (4, 80), "b": (4, 81), "c": (4, 3, 27)})
    found = lint_plan({"a": "int4-g64", "b": "int4-g64", "c": "int4-g64"}, "torchao", model)
    assert [item.advice for item in sorted(found, key=lambda item: item.layers)] == [
        "use groups of 16 or whole rows",
        "use whole rows",
        "leave convolutions as they are",
    ]


@pytest.mark.parametrize(
    ("runtime", "format_name", "severity"),
    [
        ("vllm", "int3-g128", "warning"), ("vllm", "int1", "error"), ("vllm", "uint3", "error"),
        ("vllm", "uint4-g64", None), ("vllm", "fp8-e4m3", None), ("vllm", "mxfp4", None), ("vllm", "mxfp8", "warning"),
        ("vllm", "int8-dynamic", None), ("sglang", "fp8-e4m3", None), ("onnxruntime", "fp8-e4m3", "error"),
        ("vllm", "int4-g16", "warning"), ("vllm", "int8", None), ("vllm", "bf16", None),
        ("sglang", "int3", "error"), ("sglang", "int4-g16", "error"), ("sglang", "int8", None),
        ("sglang", "fp32", None),
        ("llama.cpp", "int4-g64", "error"), ("llama.cpp", "int8-g32", None), ("llama.cpp", "q5_1", None),
        ("onnxruntime", "int3-g32", "error"), ("onnxruntime", "int4", "error"), ("onnxruntime", "int4-g8", "error"),
        ("onnxruntime", "int4-g48", "error"), ("onnxruntime", "uint2-g16", None), ("onnxruntime", "fp16", None),
        ("transformers", "int1-g32", "error"), ("transformers", "int2-g32", None),
        ("torchao", "int1-g32", None), ("torchao", "uint7", None), ("torchao", "int4-g1", "error"),
    ],
)  # fmt: skip
def test_formats_without_code_are_found(runtime: str, format_name: str, severity: str | None) -> None:
    found = [item for item in lint_plan({"blk.0.attn_q": format_name}, runtime) if item.rule == "formats"]
    assert [item.severity for item in found] == ([severity] if severity else [])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_tied_weights_with_two_formats_are_found(runtime: str) -> None:
    plan = {"model.embed_tokens": "fp16", "lm_head": "int4-g32"}
    found = [item for item in lint_plan(plan, runtime, MODEL) if item.rule == "tied-weights"]
    assert [(item.severity, item.layers) for item in found] == [("error", ("model.embed_tokens", "lm_head"))]
    same = dict.fromkeys(plan, "int4-g32")
    assert not [item for item in lint_plan(same, runtime, MODEL) if item.rule == "tied-weights"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_plan_for_another_model_is_found(runtime: str) -> None:
    found = [
        item for item in lint_plan({"lm_haed": "int4-g32"}, runtime, MODEL) if item.rule == "unknown-names"
    ]
    (only,) = found
    assert (only.severity, only.layers) == ("error", ("lm_haed",))
    assert only.detail.startswith("unknown layer 'lm_haed'; did you mean 'lm_head'?")


def test_experts_share_a_format() -> None:
    experts = {f"l.0.mlp.experts.{index}.{part}": "int4-g32" for index in (0, 1) for part in ("up", "down")}
    model = Model(dict.fromkeys(experts))
    by_part = {layer: "int8-g32" if layer.endswith("down") else name for layer, name in experts.items()}
    by_expert = {layer: "int8-g32" if ".1." in layer else name for layer, name in experts.items()}
    assert ("error", "experts") not in _rules(lint_plan(experts, "vllm", model))
    assert ("error", "experts") in _rules(lint_plan(by_part, "vllm", model))
    assert ("error", "experts") not in _rules(lint_plan(by_part, "llama.cpp", model))
    assert _rules(lint_plan(by_expert, "llama.cpp", model)).count(("error", "experts")) == 2


def test_quantized_embeddings_are_found_where_they_are_not_read() -> None:
    for runtime, expected in (
        ("vllm", 1),
        ("sglang", 1),
        ("transformers", 1),
        ("torchao", 0),
        ("llama.cpp", 0),
    ):
        found = lint_plan({"model.embed_tokens": "int4-g32"}, runtime)
        assert len([item for item in found if item.rule == "embeddings"]) == expected


def test_k_quants_fall_back_where_rows_are_not_whole_blocks() -> None:
    text = "attn_q=q4_k\nattn_k=iq3_s\nattn_v=q8_0\nffn_up=iq4_nl\nffn_gate=f32\n"
    layers = [f"blk.0.{name}" for name in ("attn_q", "attn_k", "attn_v", "ffn_up", "ffn_gate")]
    model = Model(dict.fromkeys(layers, (64, 128)))
    found = lint_files("llama.cpp", {"plan.txt": text}, "llama.cpp", model)
    assert [(item.severity, item.layers) for item in found] == [
        ("warning", (layers[0],)),
        ("warning", (layers[1],)),
    ]
    assert "becomes q5_0" in found[0].detail
    assert "becomes iq4_nl" in found[1].detail


def test_layers_without_a_tensor_name_are_found() -> None:
    (found,) = lint_plan({"conv1": "int4-g32"}, "llama.cpp")
    assert (found.severity, found.rule, found.layers) == ("warning", "names", ("conv1",))


def test_errors_come_first_and_read_as_sentences() -> None:
    found = lint_plan(_plan(self_attn__v_proj="int3-g32"), "vllm", MODEL)
    assert _rules(found) == [("error", "fused-shards"), ("warning", "formats")]
    assert str(found[1]).startswith(f"warning [formats] {QKV[2]}: all releases have 4 and 8 bits")


@pytest.mark.parametrize("target", EXPORTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_our_own_files_pass_or_are_of_another_tool(target: str, runtime: str) -> None:
    names = {layer: layer for layer in SHAPES} if target == "llama.cpp" else None
    plan = dict.fromkeys(CLEAN, "int4-g32")
    done = export(plan, target, names=names, others=["lm_head", "model.embed_tokens"])
    rules = {item.rule for item in lint_files(target, done.files, runtime, MODEL, names)}
    unread = {"unreadable"} if target not in RUNTIMES[runtime].reads else set()
    assert rules - {"formats", "names"} == unread


def _files(document: Mapping[str, object]) -> dict[str, str]:
    return {"config.json": json.dumps(document)}


def _group(targets: list[str], bits: int, size: int = 128) -> dict[str, object]:
    return {
        "targets": targets,
        "weights": {"num_bits": bits, "group_size": size, "strategy": "group", "symmetric": True},
    }


def test_a_foreign_checkpoint_that_vllm_would_corrupt_is_found() -> None:
    """q and v match different groups: vLLM takes the first shard's scheme for all three, without an error."""
    groups = {
        "a": _group([r"re:.*(q|k)_proj"], 4),
        "b": _group([r"re:.*v_proj$"], 8),
        "c": _group([r"re:.*mlp.*"], 4),
    }
    document = {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "config_groups": groups,
            "ignore": ["lm_head", "nothing"],
        }
    }
    found = lint_files("compressed-tensors", _files(document), "vllm", MODEL)
    assert [(item.severity, item.rule, item.layers) for item in found] == [
        ("error", "fused-shards", QKV),
        ("warning", "unknown-names", ()),
    ]
    assert "'nothing' matches no layer" in found[1].detail


def test_a_foreign_rule_for_shards_that_vllm_passes_over_is_found() -> None:
    dynamic = {rf"+:{BLOCK}\.self_attn\.(q|k|v)_proj": {"bits": 8}}
    found = lint_files("gptqmodel", _files({"bits": 4, "group_size": 128, "dynamic": dynamic}), "vllm", MODEL)
    assert [(item.severity, item.rule, item.layers) for item in found] == [("error", "fused-names", QKV)]
    assert "finds int4-g128, not int8-g128" in found[0].detail
    skipped = {rf"-:{BLOCK}\.self_attn\.(q|k|v)_proj": {}}
    found = lint_files(
        "gptqmodel", _files({"bits": 4, "group_size": 128, "dynamic": skipped}), "sglang", MODEL
    )
    assert [item.rule for item in found] == ["fused-names"]
    both = {rf"-:{BLOCK}\.self_attn\.(q|k|v|qkv)_proj": {}}
    assert (
        lint_files("gptqmodel", _files({"bits": 4, "group_size": 128, "dynamic": both}), "sglang", MODEL)
        == ()
    )


def test_rules_for_experts_that_miss_their_block_are_found() -> None:
    experts = [f"l.0.mlp.experts.{index}.up_proj" for index in (0, 1)]
    model = Model(dict.fromkeys(experts, (64, 128)))
    apart = {rf"+:l\.0\.mlp\.experts\.{index}\.up_proj": {"bits": 8} for index in (0, 1)}
    (found,) = lint_files(
        "gptqmodel", _files({"bits": 4, "group_size": 128, "dynamic": apart}), "vllm", model
    )
    assert (found.rule, found.layers) == ("fused-names", tuple(experts))
    ours = export(dict.fromkeys(experts, "int8-g128") | dict.fromkeys("abc", "int4-g128"), "gptqmodel")
    assert lint_files("gptqmodel", ours.files, "vllm", model) == ()


def test_files_that_spell_out_every_layer_need_no_model() -> None:
    files = export({QKV[0]: "int4-g32", QKV[1]: "int8-g32"}, "compressed-tensors").files
    assert _rules(lint_files("compressed-tensors", files, "vllm")) == [("error", "fused-shards")]


def test_an_allocation_is_linted() -> None:
    allocation = solve(tiny(), budgets={"weight_bytes": "1 MiB"})
    assert lint_plan(allocation, "torchao") == ()
    with pytest.raises(InvalidInputError, match="the allocation is infeasible"):
        lint_plan(solve(tiny(), budgets={"weight_bytes": 1}), "torchao")


def test_four_bit_floats_need_whole_blocks_in_llama_cpp() -> None:
    shapes = {**SHAPES, f"{BLOCK}.mlp.down_proj": (256, 500)}
    findings = lint_plan(_plan(mlp__down_proj="mxfp4"), "llama.cpp", Model(shapes, ()))
    assert [(found.rule, found.layers) for found in findings] == [
        ("group-sizes", (f"{BLOCK}.mlp.down_proj",))
    ]
    assert lint_plan(_plan(mlp__down_proj="mxfp4"), "llama.cpp", MODEL) == ()
