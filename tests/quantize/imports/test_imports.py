"""What imports share: one registry, one profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator import InvalidInputError, solve
from quantize.imports import IMPORTS, import_scores


def test_unknown_sources_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match="/source: unknown source 'exllama'; did you mean 'exllamav2'"
    ):
        import_scores("exllama", [tmp_path])


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
