"""Mixtures of experts: no expert is dropped, and what is left out is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from allocator import InvalidInputError, solve
from quantize import parse_format, round_trip
from quantize.imports import import_scores
from tests.quantize.imports.checkpoints import EXPERTS, MIXTURE, STACKED, checkpoint, weight
from tests.quantize.imports.test_imatrix import gguf, legacy

STACKS = {
    "blk.0.ffn_gate_exps.weight": np.arange(1, 65, dtype=np.float32).reshape(2, 32),
    "blk.0.ffn_up_exps.weight": np.ones((2, 32), np.float32),
    "blk.0.ffn_down_exps.weight": np.stack([np.zeros(64), np.full(64, 3.0)]).astype(np.float32),
}
MATRIX = {"blk.0.attn_q.weight": np.ones(32, np.float32), **STACKS}


def _matrix(folder: Path, content: bytes) -> list[Path]:
    path = folder / "imatrix"
    path.write_bytes(content)
    return [path]


@pytest.mark.parametrize("kind", ["gguf", "legacy"])
def test_an_importance_matrix_weighs_every_expert_by_its_own_inputs(tmp_path: Path, kind: str) -> None:
    content = (
        gguf(MATRIX, calls=1)
        if kind == "gguf"
        else legacy({name: values.reshape(-1) for name, values in MATRIX.items()}, calls=1)
    )
    model = checkpoint(tmp_path / "m", MIXTURE)
    profile = import_scores("imatrix", _matrix(tmp_path, content), formats=["int4-g32"], model=model)
    rows = {layer.name: index for index, layer in enumerate(profile.layers)}
    assert len([name for name in rows if "experts" in name]) == 3 * EXPERTS
    for index in range(EXPERTS):
        name = f"model.layers.0.mlp.experts.{index}.gate_proj"
        original = weight(name, (64, 32)).astype(np.float64)
        error = round_trip(original.astype(np.float32), parse_format("int4-g32")) - original
        expected = float((error**2).sum(0) @ STACKS["blk.0.ffn_gate_exps.weight"][index].astype(np.float64))
        assert profile.costs["imatrix_error"].values[rows[name]][0] == pytest.approx(expected, rel=1e-12)
        assert profile.layers[rows[name]].unit == "blk.0.ffn_gate_exps"


def test_an_expert_that_no_token_was_sent_to_has_the_mean_of_the_others(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", MIXTURE)
    path = _matrix(tmp_path, gguf(MATRIX, calls=1))
    profile = import_scores("imatrix", path, formats=["int4-g32"], model=model)
    rows = {layer.name: index for index, layer in enumerate(profile.layers)}
    idle = profile.costs["imatrix_error"].values[rows["model.layers.0.mlp.experts.0.down_proj"]][0]
    assert idle is not None
    assert idle > 0
    assert profile.provenance.notes["/experts"].endswith("blk.0.ffn_down_exps.weight 0")


def test_what_model_and_matrix_do_not_share_is_said(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", MIXTURE)
    path = _matrix(tmp_path, gguf(MATRIX | {"blk.7.attn_q.weight": np.ones(32, np.float32)}))
    notes = import_scores("imatrix", path, formats=["int8"], model=model).provenance.notes
    assert (
        "no entry for them: model.embed_tokens, lm_head, model.layers.0.self_attn.o_proj" in notes["/layers"]
    )
    assert notes["/source"].endswith("without a layer in the model: blk.7.attn_q.weight")


def test_a_matrix_of_another_number_of_experts_is_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", MIXTURE)
    path = _matrix(tmp_path, gguf({"blk.0.ffn_up_exps.weight": np.ones((3, 32), np.float32)}))
    with pytest.raises(InvalidInputError, match=r"one of 2 experts, 'blk.0.ffn_up_exps.weight' has 3"):
        import_scores("imatrix", path, formats=["int8"], model=model)


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "NaN"), (np.inf, "inf"), (-1.0, "-0.25")])
@pytest.mark.parametrize("kind", [gguf, legacy])
def test_what_is_no_mean_square_is_refused_by_tensor(value: float, shown: str, kind: object) -> None:
    from quantize.imports.imatrix import mean_squares

    good, bad = np.ones(4, np.float32), np.ones(4, np.float32)
    bad[2:] = value
    with pytest.raises(InvalidInputError) as caught:
        mean_squares(kind({"fine": good, "one": bad, "two": bad}), "im")  # type: ignore[operator]
    assert [fault.detail.partition("'")[2].partition("'")[0] for fault in caught.value.faults] == [
        "one",
        "two",
    ]
    assert f"holds {shown} (channel 2 and 1 more), which is no mean square" in str(caught.value)


def test_names_bring_together_what_the_rule_does_not(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", {"trunk.a": (8, 32), "trunk.b": (8, 32)})
    path = _matrix(tmp_path, gguf({"blk.0.attn_q.weight": np.ones(32, np.float32)}))
    names = {"trunk.a": "blk.0.attn_q.weight"}
    profile = import_scores("imatrix", path, formats=["int8"], model=model, names=names)
    assert [layer.name for layer in profile.layers] == ["trunk.a"]


@pytest.mark.parametrize("shapes", [MIXTURE, STACKED])
def test_the_stack_of_mlx_is_one_row_of_all_experts(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    names = [f"model.layers.0.mlp.switch_mlp.{part}_proj" for part in ("gate", "up", "down")]
    (tmp_path / "s.json").write_text(json.dumps([[name, 2.0] for name in names]))
    formats = ("uint4-g32", "uint8-g32")
    model = checkpoint(tmp_path / "m", shapes)
    profile = import_scores("mlx", [tmp_path / "s.json"], formats=formats, model=model)
    assert [layer.parameters for layer in profile.layers] == [EXPERTS * 64 * 32] * 3
    low = [EXPERTS * parse_format(formats[0]).stored_bytes(shape) for shape in ((64, 32), (64, 32), (32, 64))]
    assert [row[0] for row in profile.resources["weight_bytes"].values] == low
    assert profile.costs["kl_alignment"].values[0] == (2.0 * EXPERTS * 64 * 32 / 1e6, 0.0)


def test_mixtrals_names_are_found_behind_mlxs(tmp_path: Path) -> None:
    block = "model.layers.0.block_sparse_moe"
    shapes = {f"{block}.experts.{index}.w2": (32, 64) for index in range(3)}
    (tmp_path / "s.json").write_text(json.dumps([[f"{block}.switch_mlp.down_proj", 1.0]]))
    model = checkpoint(tmp_path / "m", shapes)
    profile = import_scores("mlx", [tmp_path / "s.json"], formats=("uint4-g32", "uint8-g32"), model=model)
    assert profile.layers[0].parameters == 3 * 32 * 64


def test_every_strange_layer_of_mlx_is_named(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", MIXTURE)
    (tmp_path / "s.json").write_text(json.dumps([["a", 1.0], ["lm_head", 1.0], ["b", 1.0]]))
    with pytest.raises(InvalidInputError) as caught:
        import_scores("mlx", [tmp_path / "s.json"], formats=("int4", "int8"), model=model)
    assert [fault.pointer for fault in caught.value.faults] == ["/s.json/0", "/s.json/2"]


def _cache(folder: Path, bits: int, layers: dict[str, list[float]]) -> Path:
    path = folder / f"w{bits}.json"
    scheme = {"bits": bits, "group_size": 32, "sym": True}
    path.write_text(json.dumps({"version": 1, "scheme": scheme, "layer_scores": layers}))
    return path


def test_auto_rounds_scores_are_planned_in_effective_bits(tmp_path: Path) -> None:
    size = 32 * 32
    names = ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj")
    files = [
        _cache(tmp_path, bits, {name: [(bits + 0.5) * size, 1 / bits] for name in names}) for bits in (4, 8)
    ]
    profile = import_scores("auto-round", files, model=checkpoint(tmp_path / "m", MIXTURE))
    assert [layer.parameters for layer in profile.layers] == [size, size]
    plan = solve(profile, budgets={"effective_bits": 6.5}).assignment
    assert plan is not None
    assert sorted(plan.values()) == ["int4-g32", "int8-g32"]


def test_rows_that_are_not_in_the_checkpoint_are_said(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", MIXTURE)
    both = [_cache(tmp_path, 4, {"lm_head": [1, 1], "gone": [1, 1]})]
    assert "gone" in import_scores("auto-round", both, model=model).provenance.notes["/layers"]
    with pytest.raises(InvalidInputError, match="/model: none of the rows is in the checkpoint: gone"):
        import_scores("auto-round", [_cache(tmp_path, 8, {"gone": [1, 1]})], model=model)


def _option(bits: int, *parts: str) -> dict[str, object]:
    projection = {"bits": [bits], "bits_prop": [1], "group_size": {str(bits): 32}, "scale_bits": 4}
    return {"accuracy": 0.9, "total_bits": bits * 1000, **dict.fromkeys(parts, projection)}


def test_exllamav2s_modules_have_the_weights_of_their_projections(tmp_path: Path) -> None:
    measured = {
        "model.layers.0.self_attn": [_option(4, "q_proj", "o_proj")],
        "model.layers.0.mlp": [_option(4, "gate_proj", "up_proj", "down_proj")],
    }
    (tmp_path / "m.json").write_text(json.dumps({"measurement": measured}))
    model = checkpoint(tmp_path / "m", MIXTURE)
    profile = import_scores("exllamav2", [tmp_path / "m.json"], model=model)
    assert [layer.parameters for layer in profile.layers] == [2 * 32 * 32, EXPERTS * 3 * 64 * 32]


def test_exllamav2s_parallel_blocks_are_two_rows(tmp_path: Path) -> None:
    measured = {
        "model.layers.0.parallel_decoder": {
            "attn": [_option(4, "q_proj", "o_proj")],
            "mlp": [_option(3, "up_proj"), _option(8, "up_proj")],
        }
    }
    shapes = {"model.layers.0.self_attn.q_proj": (8, 8), "model.layers.0.self_attn.o_proj": (8, 8),
              "model.layers.0.mlp.up_proj": (16, 8), "model.layers.1.mlp.up_proj": (16, 8)}  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps({"measurement": measured}))
    model = checkpoint(tmp_path / "m", shapes)
    profile = import_scores("exllamav2", [tmp_path / "m.json"], model=model)
    assert {layer.name: layer.parameters for layer in profile.layers} == {
        "model.layers.0.parallel_decoder.attn": 128, "model.layers.0.parallel_decoder.mlp": 128,
    }  # fmt: skip
    assert list(profile.formats) == ["attn-4.000", "mlp-3.000", "mlp-8.000"]


@pytest.mark.parametrize("source", ["csv", "auto-round", "exllamav2"])
def test_formats_are_refused_where_the_files_name_them(tmp_path: Path, source: str) -> None:
    files = {
        "csv": "layer,format,cost\na,int4,1\n",
        "auto-round": json.dumps({"version": 1, "scheme": {"bits": 4}, "layer_scores": {"a": [1, 1]}}),
        "exllamav2": json.dumps({"measurement": {"a": [_option(4, "up")]}}),
    }
    (tmp_path / "f.json").write_text(files[source])
    with pytest.raises(InvalidInputError, match=f"/formats: files of {source} name their formats"):
        import_scores(source, [tmp_path / "f.json"], formats=["int4"])


@pytest.mark.parametrize(
    ("value", "words"),
    [(-5, "a number of at least 0, got -5"), (10**400, "a finite number, got '1000"), (1e999, "got 'inf'")],
)
def test_sizes_that_no_profile_may_hold_are_refused(tmp_path: Path, value: float, words: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"/w4.json/layer_scores/a/0: expected .*{words}"):
        import_scores("auto-round", [_cache(tmp_path, 4, {"a": [value, 1.0]})])
