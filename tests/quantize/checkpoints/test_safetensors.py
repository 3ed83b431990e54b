"""Weights of a checkpoint without torch, in every floating type."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from allocator import InvalidInputError
from quantize.checkpoints.safetensors import load_weight, stored_weights


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
    with pytest.raises(InvalidInputError, match="does not hold as much as its header says"):
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
