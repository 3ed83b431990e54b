"""Weights of a checkpoint without torch, in every floating type."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from allocator import InvalidInputError
from quantize.checkpoints.safetensors import INDEX, load_weight, open_checkpoint, stored_weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_those_that_were_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    saved = {
        "a.weight": torch.randn(3, 5).to(dtype),
        "b.weight": torch.randn(2, 3, 4).to(dtype),
        "b.bias": torch.ones(2),
    }
    save_file(saved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = stored_weights(tmp_path)
    assert set(found) == {"a", "b"}
    for name, tensor in found.items():
        expected = saved[f"{name}.weight"].float().numpy()
        assert np.array_equal(load_weight(tensor), expected)
        assert load_weight(tensor).dtype == np.float32


def test_integers_are_refused(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2, 2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(
        InvalidInputError, match=r"/model: .*model.safetensors' holds I8; known: F64, F32, F16, BF16"
    ):
        load_weight(stored_weights(tmp_path)["a"])


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.ones(2, 2)}, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InvalidInputError, match=r"is cut short: 'a.weight' ends at byte"):
        load_weight(stored_weights(tmp_path)["a"])


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": 3}',
        b'{"a": {"dtype": "F32"}}',
        b'{"a": {"dtype": "F32", "shape": 1, "data_offsets": []}}',
        b"3",
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InvalidInputError, match="is no safetensors file"):
        stored_weights(tmp_path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.ones(2, 2)}, path)
    found = stored_weights(tmp_path)["a"]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InvalidInputError, match="does not hold as much as its header says"):
        load_weight(found)


# Which files hold the model


def saved(folder: Path, file: str, value: float, *names: str) -> None:
    save_file(
        {name: torch.full((2, 2), float(value)) for name in names}, folder / file, metadata={"format": "pt"}
    )


def indexed(folder: Path, **placed: str) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": placed}))


def test_the_index_decides_and_what_it_does_not_name_is_ignored_by_name(tmp_path: Path) -> None:
    """A folder of Mistral: shards, an index, and the same model once more under other names."""
    saved(tmp_path, "model-00001-of-00002.safetensors", 1, "a.weight")
    saved(tmp_path, "model-00002-of-00002.safetensors", 2, "b.weight")
    saved(tmp_path, "consolidated.safetensors", 3, "layers.0.weight", "a.weight")
    saved(tmp_path, "zz-left-over.safetensors", 4, "a.weight", "b.weight")
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    indexed(tmp_path, **dict(zip(("a.weight", "b.weight"), shards, strict=True)))
    checkpoint = open_checkpoint(tmp_path)
    assert {name: float(load_weight(item)[0, 0]) for name, item in checkpoint.tensors.items()} == {
        "a.weight": 1.0,
        "b.weight": 2.0,
    }
    assert checkpoint.ignored == ("consolidated.safetensors", "zz-left-over.safetensors")


def test_without_an_index_one_file_decides(tmp_path: Path) -> None:
    saved(tmp_path, "model.safetensors", 1, "a.weight")
    saved(tmp_path, "model_old.safetensors", 2, "a.weight", "b.weight")
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint.tensors) == ["a.weight"]
    assert float(load_weight(checkpoint.tensors["a.weight"])[0, 0]) == 1.0
    assert checkpoint.ignored == ("model_old.safetensors",)


def test_two_files_that_hold_the_same_tensor_are_refused_where_nothing_decides(tmp_path: Path) -> None:
    saved(tmp_path, "one.safetensors", 1, "a.weight")
    saved(tmp_path, "two.safetensors", 2, "b.weight")
    assert set(open_checkpoint(tmp_path).tensors) == {"a.weight", "b.weight"}
    saved(tmp_path, "two.safetensors", 2, "a.weight")
    with pytest.raises(InvalidInputError, match=r"both 'one.safetensors' and 'two.safetensors' .* hold 'a"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            "adapter_model.safetensors",
            r"holds an adapter \(adapter_model.safetensors\); merge it into its base",
        ),
        ("pytorch_model.bin", "holds pytorch_model.bin; save the model as safetensors first"),
        ("notes.txt", r"holds no \*.safetensors"),
    ],
)
def test_a_folder_of_something_else_is_told_what_it_is(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / file).write_bytes(b"")
    expected = r"/model: expected a folder with model.safetensors or model.safetensors.index.json, got .*"
    with pytest.raises(InvalidInputError, match=expected + words):
        open_checkpoint(tmp_path)
