"""Scores with the model: every byte of the checkpoint is counted once, in a row or outside."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allocator import InvalidInputError, Profile
from quantize import parse_format, round_trip
from quantize.imports import import_scores
from tests.quantize.imports.checkpoints import EXPERTS, MIXTURE, STACKED, checkpoint, weight
from tests.quantize.imports.test_imatrix import gguf, legacy

BLOCK = "model.layers.0"


def _option(*projections: str) -> dict[str, Any]:
    settings = {"group_size": {"4": 128}, "bits": [4], "bits_prop": [1], "scale_bits": 4}
    return {"accuracy": 0.9, "total_bits": 800, **dict.fromkeys(projections, settings)}


def _import(source: str, folder: Path, document: object, shapes: dict[str, Any], **options: Any) -> Profile:
    path = folder / "scores"
    text = document if isinstance(document, (str, bytes)) else json.dumps(document)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_scores(source, [path], model=checkpoint(folder / "m", shapes), **options)


def _bytes_outside(profile: Profile) -> int:
    assert profile.resources["weight_bytes"].constant == sum(item.stored_bytes for item in profile.outside)
    return sum(item.stored_bytes for item in profile.outside)


def _stored(*names: str, shapes: dict[str, tuple[int, ...]] = MIXTURE) -> int:
    return sum(4 * math.prod(shape) for name, shape in shapes.items() if name not in names)


def test_weights_of_measured_modules_are_not_outside(tmp_path: Path) -> None:
    """A measured module is a row; its projections are no rows, and were counted a second time."""
    modules = {
        f"{BLOCK}.self_attn": [_option("q_proj", "o_proj")],
        f"{BLOCK}.mlp": [_option("w1", "w2", "w3")],  # as exllamav2 names projections of experts
    }
    profile = _import("exllamav2", tmp_path, {"measurement": modules}, MIXTURE)
    assert {item.name for item in profile.outside} == {
        "model.embed_tokens.weight", "lm_head.weight", f"{BLOCK}.mlp.gate.weight",
    }  # fmt: skip
    assert _bytes_outside(profile) == 4 * (64 * 32 + 64 * 32 + EXPERTS * 32)
    assert [layer.parameters for layer in profile.layers] == [2 * 32 * 32, EXPERTS * 3 * 64 * 32]


def test_modules_without_settings_are_left_out_and_said(tmp_path: Path) -> None:
    modules = {f"{BLOCK}.self_attn": [_option("q_proj", "o_proj")], "lm_head": []}
    profile = _import("exllamav2", tmp_path, {"measurement": modules}, MIXTURE)
    assert [layer.name for layer in profile.layers] == [f"{BLOCK}.self_attn"]
    assert profile.provenance is not None
    assert profile.provenance.notes["/layers"].endswith("nothing was measured of them: lm_head")


@pytest.mark.parametrize("shapes", [MIXTURE, STACKED])
def test_experts_of_a_stack_are_not_outside(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    names = [f"{BLOCK}.mlp.switch_mlp.{part}_proj" for part in ("gate", "up", "down")]
    scores = [[name, 1.0] for name in [*names, f"{BLOCK}.self_attn.q_proj"]]
    profile = _import("mlx", tmp_path, scores, shapes, formats=("uint4-g32", "uint8-g32"))
    planned = [name for name in shapes if "experts" in name or name.endswith("q_proj")]
    assert _bytes_outside(profile) == _stored(*planned, shapes=shapes)


@pytest.mark.parametrize("ending", ["", ".weight"])
def test_tensors_of_llama_cpp_are_found_in_the_checkpoint(tmp_path: Path, ending: str) -> None:
    rows = [f"blk.0.{part}{ending},Q4_K,0.1,100" for part in ("attn_q", "ffn_up_exps")]
    profile = _import("csv", tmp_path, "\n".join(["layer,format,cost,bytes", *rows]), MIXTURE)
    assert [layer.parameters for layer in profile.layers] == [32 * 32, EXPERTS * 64 * 32]
    planned = [
        f"{BLOCK}.self_attn.q_proj",
        *(f"{BLOCK}.mlp.experts.{index}.up_proj" for index in range(EXPERTS)),
    ]
    assert _bytes_outside(profile) == _stored(*planned)


def test_rows_of_another_model_are_refused_and_strange_rows_are_said(tmp_path: Path) -> None:
    head, line = "layer,format,cost,bytes,parameters\n", "trunk.a,int4,0.1,100,10\n"
    with pytest.raises(
        InvalidInputError, match=r"/model: none of the rows is in the checkpoint: trunk.a; give --names"
    ):
        _import("csv", tmp_path, head + line, MIXTURE)
    profile = _import("csv", tmp_path, f"{head}{line}lm_head,int4,0.1,100,2048\n", MIXTURE)
    assert profile.provenance is not None
    assert profile.provenance.notes["/outside"].startswith(
        "not in the checkpoint: trunk.a; their weights, if"
    )


def test_mlx_has_the_low_format_first_and_every_layer_once(tmp_path: Path) -> None:
    scores = [["lm_head", 1.0]]
    with pytest.raises(
        InvalidInputError, match=r"/formats: expected the low format first .* got uint8 and uint4"
    ):
        _import("mlx", tmp_path, scores, MIXTURE, formats=("uint8", "uint4"))
    with pytest.raises(InvalidInputError, match=r"/scores/1: 'lm_head' is given twice"):
        _import("mlx", tmp_path, scores * 2, MIXTURE, formats=("uint4", "uint8"))


@pytest.mark.parametrize("kind", [gguf, legacy])
@pytest.mark.parametrize("transposed", [False, True])
def test_experts_in_one_parameter_are_weighed_one_by_one(tmp_path: Path, kind: Any, transposed: bool) -> None:
    up, down = f"{BLOCK}.mlp.experts.gate_up_proj", f"{BLOCK}.mlp.experts.down_proj"
    shapes: dict[str, tuple[int, ...]] = {up: (EXPERTS, 128, 32), down: (EXPERTS, 32, 64)}
    if transposed:
        shapes = {up: (EXPERTS, 32, 128), down: (EXPERTS, 64, 32)}
    inputs = np.arange(1, 65, dtype=np.float32).reshape(EXPERTS, 32)
    matrix = {
        "blk.0.ffn_gate_exps.weight": inputs,
        "blk.0.ffn_up_exps.weight": inputs,
        "blk.0.ffn_down_exps.weight": np.ones((EXPERTS, 64), np.float32),
    }
    given = matrix if kind is gguf else {name: values.reshape(-1) for name, values in matrix.items()}
    profile = _import("imatrix", tmp_path, kind(given, calls=1), shapes, formats=["q4_0"])
    assert [layer.name for layer in profile.layers] == [up, down]
    assert profile.provenance is not None
    assert dict(profile.provenance.notes) == {}
    stack = weight(up, shapes[up]).swapaxes(1, 2) if transposed else weight(up, shapes[up])
    fmt = parse_format("int4-g32")
    expected = sum(
        float(((round_trip(np.ascontiguousarray(part), fmt).astype(np.float64) - part) ** 2).sum(0) @ squares)
        for part, squares in zip(stack, inputs.astype(np.float64), strict=True)
    )
    assert profile.costs["imatrix_error"].values[0][0] == pytest.approx(expected, rel=1e-12)
    assert profile.resources["weight_bytes"].values[0][0] == EXPERTS * fmt.stored_bytes((128, 32))
    assert _bytes_outside(profile) == 0


def test_a_stack_of_another_model_is_refused(tmp_path: Path) -> None:
    matrix = {"blk.0.ffn_down_exps.weight": np.ones((EXPERTS, 48), np.float32)}
    with pytest.raises(
        InvalidInputError, match=r"has experts of \(32, 64\), the matrix 48 channels: it is of another"
    ):
        _import("imatrix", tmp_path, gguf(matrix), STACKED, formats=["int8"])
