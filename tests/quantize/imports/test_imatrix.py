"""Importance matrices of both kinds, and the cost they give."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from allocator import InvalidInputError
from quantize import parse_format, round_trip
from quantize.imports import import_scores
from quantize.imports.imatrix import mean_squares

UP, DOWN = "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"
LAYERS = {UP: "model.layers.0.mlp.up_proj", DOWN: "model.layers.0.mlp.down_proj"}
SUMS = {UP: np.arange(1, 33, dtype=np.float32), DOWN: np.linspace(5, 6, 16, dtype=np.float32)}
CALLS = 4


def legacy(sums: dict[str, np.ndarray], calls: int = CALLS) -> bytes:
    """As llama.cpp wrote it before August 2025: mean squares times calls."""
    entries = b"".join(
        struct.pack("<i", len(name))
        + name.encode()
        + struct.pack("<ii", calls, len(values))
        + values.astype("<f4").tobytes()
        for name, values in sums.items()
    )
    return struct.pack("<i", len(sums)) + entries + struct.pack("<i", 7) + struct.pack("<i", 4) + b"wiki"


def gguf(sums: dict[str, np.ndarray], calls: int = CALLS, alignment: int = 32) -> bytes:
    """As it writes it now: sums and counts, as tensors of a GGUF file."""
    text = lambda value: struct.pack("<Q", len(value)) + value.encode()  # noqa: E731
    pairs = [
        text("general.type") + struct.pack("<I", 8) + text("imatrix"),
        text("imatrix.datasets") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("imatrix.chunk_count") + struct.pack("<II", 4, 7),
        text("other") + struct.pack("<IIQ", 9, 4, 3) + struct.pack("<3I", 1, 2, 3),
        text("general.alignment") + struct.pack("<II", 4, alignment),
        text("pi") + struct.pack("<Id", 12, 3.14),
    ]
    tensors = {}
    for name, values in sums.items():
        tensors[f"{name}.in_sum2"] = np.atleast_2d(values)
        tensors[f"{name}.counts"] = np.full((len(np.atleast_2d(values)), 1), calls)
    infos, data = b"", b""
    for name, values in tensors.items():
        data += bytes(-len(data) % alignment)
        infos += text(name) + struct.pack("<I2QIQ", 2, *values.shape[::-1], 0, len(data))
        data += values.astype("<f4").tobytes()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + infos
    return head + bytes(-len(head) % alignment) + data


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    torch.manual_seed(0)
    parts = {"up": torch.randn(16, 32).bfloat16(), "down": torch.randn(32, 16), "gate": torch.randn(16, 32)}
    tensors = {f"model.layers.0.mlp.{name}_proj.weight": weight for name, weight in parts.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("content", [legacy(SUMS), gguf(SUMS), gguf(SUMS, alignment=64)])
def test_both_kinds_hold_the_same_mean_squares(content: bytes) -> None:
    found = mean_squares(content, "imatrix")
    assert set(found) == set(SUMS)
    for name, sums in SUMS.items():
        assert np.array_equal(found[name], [sums.astype(np.float64) / CALLS])


def test_every_expert_has_mean_squares_of_its_own() -> None:
    experts = np.array([[2.0, 4.0], [30.0, 50.0]])
    assert mean_squares(gguf({"a": experts}, calls=2), "")["a"].tolist() == [[1.0, 2.0], [15.0, 25.0]]


@pytest.mark.parametrize("kind", [legacy, gguf])
def test_costs_follow_the_definition(tmp_path: Path, model: Path, kind: object) -> None:
    path = tmp_path / "im.dat"
    path.write_bytes(kind(SUMS))  # type: ignore[operator]
    profile = import_scores("imatrix", [path], formats=["int2-g16", "uint4", "fp16"], model=model)
    assert {layer.name: layer.parameters for layer in profile.layers} == dict.fromkeys(LAYERS.values(), 512)
    weights = (
        torch.manual_seed(0),
        torch.randn(16, 32).bfloat16().float().numpy(),
        torch.randn(32, 16).numpy(),
    )
    for tensor, weight in zip(SUMS, weights[1:], strict=True):
        (row,) = (index for index, layer in enumerate(profile.layers) if layer.name == LAYERS[tensor])
        for column, name in enumerate(profile.formats):
            rounded = round_trip(weight, parse_format(name)).astype(np.float64)
            expected = sum(
                SUMS[tensor][j] / CALLS * (rounded[i, j] - weight[i, j]) ** 2
                for i in range(weight.shape[0])
                for j in range(weight.shape[1])
            )
            assert profile.costs["imatrix_error"].values[row][column] == pytest.approx(expected, rel=1e-12)
            stored = parse_format(name).stored_bytes(weight.shape)
            assert profile.resources["weight_bytes"].values[row][column] == stored


def test_a_matrix_of_another_model_is_refused(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "im.dat"
    path.write_bytes(legacy({UP: np.ones(31)}))
    with pytest.raises(
        InvalidInputError, match=r"up_proj' has rows of 32, the matrix 31 channels: it is of another model"
    ):
        import_scores("imatrix", [path], formats=["int4"], model=model)


def test_formats_and_model_have_to_be_given(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InvalidInputError, match="/formats: expected formats to score, got none"):
        import_scores("imatrix", [tmp_path], model=model)
    with pytest.raises(InvalidInputError, match="/model: expected the model"):
        import_scores("imatrix", [tmp_path], formats=["int4"])


@given(cut=st.integers(0, 10_000), kind=st.sampled_from([legacy, gguf]))
def test_a_file_that_ends_too_soon_is_refused(cut: int, kind: object) -> None:
    content = kind(SUMS)  # type: ignore[operator]
    keep = cut % (len(content) - 20)  # the name of the data set at the end of a .dat is not read
    with pytest.raises(InvalidInputError, match=r"/im: expected an importance matrix"):
        mean_squares(content[:keep], "im")


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"GGUF" + struct.pack("<IQQ", 1, 0, 0), struct.pack("<i", 0), b"{}" * 9]
)
def test_a_file_that_is_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"/im: expected an importance matrix"):
        mean_squares(content, "im")
