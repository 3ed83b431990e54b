"""Moments in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator import InvalidInputError
from quantize.rounding.moments import read_moments, write_moments


def test_moments_come_back_bit_for_bit_and_others_can_read_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    moments = {"up": rng.normal(size=(1, 3, 3)), "embed": np.arange(7), "down": rng.normal(size=(4, 4))}
    write_moments(tmp_path / "moments.safetensors", moments)
    found = read_moments(tmp_path / "moments.safetensors")
    assert found.keys() == moments.keys()
    assert all(np.array_equal(found[name], moments[name]) for name in moments)
    assert torch.equal(load_file(tmp_path / "moments.safetensors")["down"], torch.from_numpy(moments["down"]))


def test_other_precisions_are_refused(tmp_path: Path) -> None:
    save_file({"up": torch.ones(2, 2)}, tmp_path / "moments.safetensors")
    with pytest.raises(InvalidInputError, match=r"/moments/up: expected double precision \(F64\), got F32"):
        read_moments(tmp_path / "moments.safetensors")
