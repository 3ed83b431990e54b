"""What the shapes of a model do to an export: groups that make up no row, and experts that share one format."""

from __future__ import annotations

import pytest

from allocator import InvalidInputError
from quantize.exports import EXPORTS, export, read
from quantize.llama_types import OWN
from tests.quantize.imports.checkpoints import MIXTURE, STACKED

BLOCK = "model.layers.0.mlp"
DOWN = f"{BLOCK}.down_proj"
#: Tools that pad a row to whole groups.
PADS = {"onnxruntime"}


@pytest.mark.parametrize("target", [name for name in EXPORTS if name not in {"llama.cpp", "quanto"}])
def test_groups_that_make_up_no_row_become_finer_or_leave_the_layer_alone(target: str) -> None:
    plan = {DOWN: "uint4-g128", "lm_head": "uint4-g128" if target != "modelopt" else "int4-g128"}
    shapes = {DOWN: (64, 8640), "lm_head": (64, 128)}
    losses = {loss.layer: loss for loss in export(plan, target, shapes=shapes).losses}
    if target in PADS:
        assert DOWN not in losses
        return
    instead = losses[DOWN].instead
    size = int(instead.rpartition("-g")[2]) if "-g" in instead else None
    assert instead == "fp16" or size is None or 8640 % size == 0
    if target in {"mlx", "nncf", "gptqmodel", "torchao", "compressed-tensors", "olive"}:
        assert instead == "uint4-g64"
        assert losses[DOWN].reason == "groups of 128 do not divide rows of 8640, and it needs whole ones"
    with pytest.raises(InvalidInputError, match=r"8640|becomes"):
        export(plan, target, shapes=shapes, strict=True)


@pytest.mark.parametrize("target", EXPORTS)
def test_rows_that_fit_lose_nothing(target: str) -> None:
    plan = {DOWN: "int8-g32" if target == "llama.cpp" else "uint4-g128", "lm_head": "fp16"}
    known = export(plan, target, shapes={DOWN: (8, 256), "lm_head": None})
    assert known == export(plan, target)


def test_halves_of_a_group_are_tried_before_the_whole_row() -> None:
    for row, instead in ((24, "int4-g8"), (20, "int4"), (48, "int4-g16")):
        (loss,) = export({"a": "int4-g32"}, "torchao", shapes={"a": (4, row)}).losses
        assert loss.instead == instead


def test_four_bit_floats_of_32_need_whole_blocks() -> None:
    plan = {"a": "mxfp4", "b": "int4-g32"}
    (loss,) = export(plan, "nncf", shapes={"a": (4, 48), "b": (4, 32)}).losses
    assert (loss.layer, loss.instead) == ("a", "fp16")


def test_quanto_takes_the_largest_group_that_it_has() -> None:
    (loss,) = export({"a": "uint4-g128"}, "quanto", shapes={"a": (4, 96)}).losses
    assert loss.instead == "uint4-g96"


@pytest.mark.parametrize(
    ("planned", "row", "instead"),
    [
        ("q4_k", 288, "int5-g32"), ("q6_k", 288, "int8-g32"), ("q3_k", 288, "int4-g32"), ("iq3_s", 288, "iq4_nl"),
        ("q4_k", 80, "fp16"), ("int8-g32", 48, "fp16"), ("mxfp4", 48, "fp16"), ("q4_k", 512, None),
        ("int8-g32", 64, None), ("iq4_nl", 96, None), ("nvfp4", 96, "int4-g32"),
    ],
)  # fmt: skip
def test_llama_cpp_falls_back_as_its_own_tool_does(planned: str, row: int, instead: str | None) -> None:
    plan = {DOWN: planned, "lm_head": "int8-g32"}
    losses = export(plan, "llama.cpp", shapes={DOWN: (64, row)}).losses
    assert [loss.instead for loss in losses] == ([] if instead is None else [instead])


def test_experts_of_a_block_are_one_line_for_llama_cpp() -> None:
    plan = {name: "int8-g32" for name in MIXTURE if "experts" in name or "self_attn" in name}
    done = export(plan, "llama.cpp", others=list(MIXTURE), shapes=MIXTURE, strict=True)
    lines = done.files["tensor-types.txt"].splitlines()
    assert [line for line in lines if "exps" in line] == [
        rf"^blk\.0\.ffn_{part}_exps\.weight$=q8_0" for part in ("gate", "up", "down")
    ]
    assert r"^blk\.0\.ffn_gate_inp\.weight$=f16" in lines
    assert read("llama.cpp", done.files, layers=list(MIXTURE)).assignment == {
        name: plan.get(name, "fp16") for name in MIXTURE
    }


@pytest.mark.parametrize("shapes", [MIXTURE, STACKED])
@pytest.mark.parametrize("target", ["llama.cpp", "mlx"])
def test_experts_outside_the_plan_are_left_alone(target: str, shapes: dict[str, tuple[int, ...]]) -> None:
    plan = {"model.layers.0.self_attn.q_proj": "int8-g32" if target == "llama.cpp" else "uint8-g32"}
    done = export(plan, target, others=list(shapes), shapes=shapes, strict=True)
    (text,) = done.files.values()
    expected = (
        ["ffn_down_exps", "ffn_gate_inp"]
        if shapes is MIXTURE
        else ["ffn_down_exps", "(?:gate_up|gate|up)_exps"]
    )
    for name in expected if target == "llama.cpp" else ["switch_mlp.gate_proj", "switch_mlp.down_proj"]:
        assert name in text
    assert read(target, done.files, layers=list(shapes)).assignment == {
        name: plan.get(name, "fp16") for name in shapes
    }


@pytest.mark.parametrize("target", ["llama.cpp", "mlx"])
def test_experts_that_differ_share_the_format_with_the_most_bits(target: str) -> None:
    kind = "" if target == "llama.cpp" else "u"
    plan = {f"{BLOCK}.experts.{index}.up_proj": f"{kind}int{bits}-g32" for index, bits in ((0, 4), (1, 8))}
    (loss,) = export(plan, target).losses
    assert (loss.layer, loss.wanted, loss.instead) == (
        f"{BLOCK}.experts.0.up_proj", f"{kind}int4-g32", f"{kind}int8-g32",
    )  # fmt: skip
    assert "holds all experts of the block in one format" in loss.reason
    # One expert that is left alone keeps the whole stack as it is.
    done = export({**plan, "lm_head": f"{kind}int8-g32"}, target, others=[f"{BLOCK}.experts.2.up_proj"])
    assert [found.instead for found in done.losses] == ["fp16", "fp16"]


def test_routers_stay_as_they_are_in_llama_cpp() -> None:
    (loss,) = export({f"{BLOCK}.gate": "int8-g32", "lm_head": "int8-g32"}, "llama.cpp").losses
    assert (loss.instead, loss.reason) == ("fp16", "llama-quantize leaves routers as they are")


def test_the_report_does_not_promise_what_the_file_cannot_say() -> None:
    done = export({"lm_head": "int8-g32", "odd": "int8-g32"}, "llama.cpp", others=["odder"])
    assert [(loss.layer, loss.instead) for loss in done.losses] == [
        ("odd", "the base type"), ("odder", "the base type"),
    ]  # fmt: skip
    with pytest.raises(InvalidInputError, match=r"/assignment/odder: .*outside the plan, and it has no name"):
        export({"lm_head": "int8-g32"}, "llama.cpp", others=["odder"], strict=True)


def test_towers_are_no_loss_where_they_are_in_another_file() -> None:
    tower = "model.visual.blocks.0.attn.qkv"
    assert export({"lm_head": "int8-g32"}, "llama.cpp", others=[tower], strict=True).losses == ()
    (loss,) = export({"lm_head": "int8-g32", tower: "int8-g32"}, "llama.cpp").losses
    assert "in a file of their own (mmproj)" in loss.reason


def test_types_pass_as_they_are() -> None:
    types = {
        "Q8_0": "q8_0",
        "Q4_K": "q4_k",
        "iq4_ks": "iq4_ks",
        "MXFP4": "mxfp4",
        "TQ1_0": "tq1_0",
        "BF16": "bf16",
    }
    plan = {f"blk.{index}.attn_q": name for index, name in enumerate(types)}
    done = export(plan, "llama.cpp", strict=True)
    assert [line.rpartition("=")[2] for line in done.files["tensor-types.txt"].split()] == list(
        types.values()
    )


def test_a_type_of_llama_cpp_is_a_loss_elsewhere() -> None:
    losses = {
        loss.layer: loss for loss in export({"a": "q8_0", "b": "q4_k", "c": "iq4_ks"}, "torchao").losses
    }
    assert set(losses) == {"b", "c"}
    assert (losses["b"].wanted, losses["b"].instead) == ("q4_k", "uint4-g32")
    assert OWN["q4_k"].bits == 4
