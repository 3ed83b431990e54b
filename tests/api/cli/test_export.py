"""`bitalloc export`: files in other tools' formats, and no file where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator import InvalidInputError, solve
from api.cli.plans import read_names
from quantize.checkpoints.safetensors import Tensor, write_tensors
from quantize.exports import EXPORTS, read, read_files
from tests.api.conftest import Run
from tests.api.helpers import tiny

PLAN = {"blk.0.attn_q": "int4-g32", "blk.0.attn_k": "int8-g32", "blk.0.attn_v": "fp16"}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PLAN))
    return path


@pytest.mark.parametrize("target", EXPORTS)
def test_every_target_is_written_and_reads_back(bitalloc: Run, plan: Path, target: str) -> None:
    done = bitalloc("export", plan, "--to", target, "--out", "new/folder", "--json")
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert result["target"] == target
    assert result["paths"] == [str(path) for path in Path("new/folder").iterdir()]
    lost = {loss["layer"]: loss["instead"] for loss in result["losses"]}
    files = read_files(target, Path("new/folder"))
    assert read(target, files, layers=PLAN).assignment == PLAN | lost


def test_an_allocation_is_exported_and_losses_are_listed(bitalloc: Run, tmp_path: Path) -> None:
    allocation = solve(tiny())
    (tmp_path / "plan.json").write_text(allocation.model_dump_json())
    done = bitalloc("export", "plan.json", "--to", "mlx")
    assert (done.code, done.err) == (0, "")
    first, *losses = done.out.splitlines()
    assert first.startswith("export/config.json: mlx_lm.convert")
    assert losses
    assert losses[0].startswith("lost: up and 1 more: int8-g64 becomes uint8-g64: it has uint2, uint3")


def test_layers_that_lose_alike_are_one_line(bitalloc: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(
        '{"a": "int3-g64", "b": "int4-g64", "c": "int3-g64", "d": "int3-g64"}'
    )
    done = bitalloc("export", "plan.json", "--to", "olive")
    _, *losses = done.out.splitlines()
    assert [line.partition(": it has")[0] for line in losses] == ["lost: a and 2 more: int3-g64 becomes fp16"]


def test_layers_outside_the_plan_are_left_alone_by_name(bitalloc: Run, plan: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(
        {f"{layer}.weight": torch.zeros(64, 128) for layer in ("lm_head", *PLAN)},
        tmp_path / "m.safetensors",
    )
    assert bitalloc("export", plan, "--to", "torchao", "--model", tmp_path).code == 0
    layers = json.loads(Path("export/torchao_config.json").read_text())["_data"]["fqn_to_config"]
    assert layers["lm_head"] is None
    assert layers["blk.0.attn_q"] is not None


def test_names_of_nodes_are_taken_from_a_file(bitalloc: Run, plan: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps({"blk.0.attn_q": "/q/MatMul"}))
    assert bitalloc("export", plan, "--to", "onnxruntime", "--names", "names.json").code == 0
    passes = json.loads(Path("export/matmul_nbits.json").read_text())["passes"]
    assert passes[0]["nodes"] == ["/q/MatMul"]


def _refused(done: object, words: str) -> None:
    assert (done.code, done.out) == (2, "")  # type: ignore[attr-defined]
    assert words in done.err  # type: ignore[attr-defined]
    assert not Path("export").exists()


def test_a_loss_is_an_error_where_that_is_asked_for(bitalloc: Run, plan: Path) -> None:
    done = bitalloc("export", plan, "--to", "quanto", "--strict")
    _refused(done, "error: /assignment/blk.0.attn_q: blk.0.attn_q: int4-g32 becomes uint4-g128")
    assert done.err.count("\n") == 2


def test_an_unknown_target_or_format_is_refused(bitalloc: Run, plan: Path, tmp_path: Path) -> None:
    _refused(
        bitalloc("export", plan, "--to", "torchoa"),
        "/target: unknown target 'torchoa'; did you mean 'torchao'?",
    )
    (tmp_path / "other.json").write_text('{"a": "q9"}')
    _refused(bitalloc("export", "other.json", "--to", "torchao"), "/assignment/a: unknown format 'q9'")


def test_a_plan_that_cannot_be_read_is_refused(bitalloc: Run, tmp_path: Path) -> None:
    _refused(bitalloc("export", "gone.json", "--to", "mlx"), "cannot read the plan 'gone.json': No such file")
    (tmp_path / "list.json").write_text("[1]")
    assert bitalloc("export", "list.json", "--to", "mlx").code == 2
    (tmp_path / "plan.json").write_text(solve(tiny(), budgets={"weight_bytes": 1}).model_dump_json())
    _refused(
        bitalloc("export", "plan.json", "--to", "mlx"), "nothing to export: the allocation is infeasible"
    )


def test_files_that_exist_are_kept_unless_forced(bitalloc: Run, plan: Path) -> None:
    assert bitalloc("export", plan, "--to", "torchao").code == 0
    Path("export/torchao_config.json").write_text("mine")
    done = bitalloc("export", plan, "--to", "torchao")
    assert (done.code, done.out) == (2, "")
    assert "'export/torchao_config.json' exists; choose another name, or replace it with --force" in done.err
    assert Path("export/torchao_config.json").read_text() == "mine"
    assert bitalloc("export", plan, "--to", "torchao", "--force").code == 0
    assert Path("export/torchao_config.json").read_text() != "mine"


def test_names_that_are_no_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"a": 3}')
    for name in ("names.json", "gone.json"):
        with pytest.raises(
            InvalidInputError, match=f"--names: expected a JSON table of layer and name in .*{name}"
        ):
            read_names(tmp_path / name)


@pytest.mark.parametrize("target", ["mlx", "compressed-tensors", "nncf"])
def test_layers_that_the_checkpoint_lacks_are_refused_for_every_target(
    bitalloc: Run, tmp_path: Path, target: str
) -> None:
    write_tensors(tmp_path / "model.safetensors", {"up.weight": Tensor("F32", (64, 64), bytes(4 * 64 * 64))})
    (tmp_path / "plan.json").write_text('{"upp": "int4-g32"}')
    done = bitalloc("export", "plan.json", "--to", target, "--model", tmp_path, "--out", "made")
    assert done.code == 2
    assert "unknown layer 'upp'; did you mean 'up'?" in done.err
    assert not Path("made").exists()
