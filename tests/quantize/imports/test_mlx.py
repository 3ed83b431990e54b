"""MLX's sensitivities, with the sizes that they leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from allocator import InvalidInputError
from quantize.imports import import_scores

BOTH = ("uint4-g64", "uint6-g64")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(
        {"up.weight": torch.zeros(64, 128), "down.weight": torch.zeros(128, 64)}, folder / "model.safetensors"
    )
    return folder


def _write(folder: Path, document: Any) -> list[Path]:
    path = folder / "sensitivities.json"
    path.write_text(json.dumps(document))
    return [path]


def test_sensitivities_per_million_weights_become_costs(tmp_path: Path, model: Path) -> None:
    profile = import_scores(
        "mlx", _write(tmp_path, [["up", 1000.0], ["down", -2.0]]), formats=BOTH, model=model
    )
    assert list(profile.formats) == list(BOTH)
    assert profile.model == "model"
    assert profile.costs["kl_alignment"].values == ((8.192, 0.0), (-0.016384, 0.0))
    assert profile.resources["weight_bytes"].values[0] == (64 * (2 * (32 + 2) + 1), 64 * (2 * (48 + 2) + 2))
    assert [layer.parameters for layer in profile.layers] == [8192, 8192]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([["gate", 1.0]], "/sensitivities.json/0: unknown layer 'gate'; known: 'up', 'down'|'down', 'up'"),
        ([["up"]], r"/0: expected a layer and its sensitivity, got \['up'\]"),
        ([["up", None]], "/0: expected a finite number, got 'None'"),
        ({"up": 1}, "/sensitivities.json: expected a list, got dict"),
    ],
)
def test_a_file_that_is_something_else_is_refused(
    tmp_path: Path, model: Path, document: Any, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        import_scores("mlx", _write(tmp_path, document), formats=BOTH, model=model)


def test_formats_and_model_have_to_be_given(tmp_path: Path, model: Path) -> None:
    paths = _write(tmp_path, [["up", 1.0]])
    with pytest.raises(
        InvalidInputError, match=r"/formats: expected the low and the high format .*, got \['int4'\]"
    ):
        import_scores("mlx", paths, formats=["int4"], model=model)
    with pytest.raises(
        InvalidInputError, match="/model: expected the model: sensitivities are per million weights"
    ):
        import_scores("mlx", paths, formats=BOTH)
