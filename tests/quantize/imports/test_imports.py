"""What imports share: one registry, one profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator import InvalidInputError, solve
from quantize.imports import IMPORTS, import_scores


@pytest.mark.parametrize("source", IMPORTS)
def test_a_missing_file_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"/paths: expected at least one file of scores, got none"):
        import_scores(source, [])
    with pytest.raises(InvalidInputError, match=r"/paths: cannot read '.*gone.json': No such file"):
        import_scores(source, [tmp_path / "gone.json"], formats=["int4", "int8"], model=_checkpoint(tmp_path))


@pytest.mark.parametrize("source", ["csv", "exllamav2", "mlx", "imatrix"])
def test_one_file_is_expected(source: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"/paths: {source} has one file of scores, got 2"):
        import_scores(source, [tmp_path, tmp_path])


def test_a_file_without_scores_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"measurement": {}}))
    with pytest.raises(InvalidInputError, match=r"/paths: found no scores in empty.json"):
        import_scores("exllamav2", [path])


def test_an_import_is_planned_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("layer,format,cost,bytes\nup,int4,3,10\nup,int8,1,20\ndown,int4,5,10\ndown,int8,1,20\n")
    profile = import_scores("csv", [path], name="mine")
    assert profile.model == "mine"
    assert solve(profile, budgets={"weight_bytes": 30}).assignment == {"up": "int4", "down": "int8"}


def _checkpoint(folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    save_file({"up.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    return folder


def test_scores_with_a_model_say_what_they_leave_out_and_which_model_it_is(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {
        "up.weight": torch.ones(4, 32),
        "down.weight": torch.ones(4, 32).half(),
        "norm.weight": torch.ones(4),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    path = tmp_path / "scores.csv"
    path.write_text("layer,format,cost,bytes,parameters\nup,int4-g32,1,72,128\n")
    alone = import_scores("csv", [path])
    assert (alone.outside, alone.identity) == (None, None)
    profile = import_scores("csv", [path], model=tmp_path)
    found = {item.name: (item.stored_bytes, item.reason) for item in profile.outside or ()}
    assert found == {"down.weight": (256, "no scores in the file"), "norm.weight": (16, "norm")}
    assert profile.resources["weight_bytes"].constant == 272
    assert profile.identity is not None
    assert (profile.identity.layers, profile.identity.parameters) == (1, 128)
