"""Names, shapes and ties from the headers of a checkpoint."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from allocator import InvalidInputError, load_profile
from quantize.lint import Model, model_of_folder, model_of_profile
from tests.api.helpers import tiny


def _checkpoint(folder: Path, *, tied: bool) -> Path:
    save_file(
        {
            "model.embed_tokens.weight": torch.zeros(10, 4),
            "model.layers.0.mlp.up_proj.weight": torch.zeros(8, 4),
            "model.layers.0.mlp.up_proj.bias": torch.zeros(8),
        },
        folder / "model-1.safetensors",
    )
    save_file(
        {"model.norm.weight": torch.zeros(4), "conv.weight": torch.zeros(3, 2, 5)},
        folder / "model-2.safetensors",
    )
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    return folder


def test_weights_of_two_and_more_dimensions_are_layers(tmp_path: Path) -> None:
    assert model_of_folder(_checkpoint(tmp_path, tied=False)) == Model(
        {"model.embed_tokens": (10, 4), "model.layers.0.mlp.up_proj": (8, 4), "conv": (3, 2, 5)}
    )


def test_a_tied_head_is_a_layer_too(tmp_path: Path) -> None:
    model = model_of_folder(_checkpoint(tmp_path, tied=True))
    assert model.shapes["lm_head"] == (10, 4)
    assert model.tied == (("model.embed_tokens", "lm_head"),)


def test_one_file_is_read_alone(tmp_path: Path) -> None:
    model = model_of_folder(_checkpoint(tmp_path, tied=True) / "model-2.safetensors")
    assert list(model.shapes) == ["conv"]
    assert model.tied == ()


def test_a_profile_has_names_only() -> None:
    profile = load_profile(tiny())
    assert model_of_profile(profile) == Model({layer.name: None for layer in profile.layers})


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"/model: expected a folder with model.safetensors or "):
        model_of_folder(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"123", struct.pack("<Q", 2**40), struct.pack("<Q", 5) + b"{nope", struct.pack("<Q", 2) + b"[]"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"/model: .*: is no safetensors file"):
        model_of_folder(tmp_path)


def test_a_broken_configuration_is_refused(tmp_path: Path) -> None:
    (_checkpoint(tmp_path, tied=True) / "config.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"/model: cannot read .*config.json"):
        model_of_folder(tmp_path)
