"""Tensors of an importance matrix that no token reached."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from allocator import InvalidInputError
from quantize.imports.importance import mean_squares


def _matrix(entries: dict[str, float]) -> bytes:
    content = struct.pack("<i", len(entries))
    for name, value in entries.items():
        content += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", int(value > 0), 4)
        content += np.full(4, value, "<f4").tobytes()
    return content


def test_a_tensor_that_no_token_reached_counts_as_missing() -> None:
    assert list(mean_squares(_matrix({"a": 0.0, "b": 2.0}), "m.dat")) == ["b"]


def test_a_matrix_that_no_token_reached_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no token reached any tensor"):
        mean_squares(_matrix({"a": 0.0, "b": 0.0}), "m.dat")
