"""Made once, and again when anything it is made from changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from benchmarks.models.cache import cached, one_thread, seeded, source, train_once

runs: list[float] = []


def shift(model: nn.Module, *, by: float) -> None:
    """Training that is easy to check."""
    runs.append(by)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)


def shift_back(model: nn.Module, *, by: float) -> None:
    shift(model, by=-by)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BITALLOC_CACHE", str(tmp_path / "cache"))
    runs.clear()
    return tmp_path / "cache"


def model(width: int = 3) -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Linear(width, 2), nn.ReLU())


def weights(trained: nn.Module) -> list[float]:
    return [float(value) for parameter in trained.parameters() for value in parameter.detach().flatten()]


def test_weights_are_trained_once_and_then_read_bit_for_bit() -> None:
    first, second = model(), model()
    train_once("m", first, partial(shift, by=0.1))
    train_once("m", second, partial(shift, by=0.1))
    assert runs == [0.1]
    assert weights(first) == weights(second) != weights(model())
    assert not first.training
    assert not second.training


@pytest.mark.parametrize(
    ("other", "training"),
    [
        (model, partial(shift, by=0.2)),
        (model, partial(shift_back, by=0.1)),
        (partial(model, 4), partial(shift, by=0.1)),
        (lambda: nn.Sequential(*model().children(), nn.Tanh()), partial(shift, by=0.1)),
    ],
    ids=["argument", "function", "weights", "structure"],
)
def test_another_recipe_is_another_file(
    other: partial[nn.Module], training: partial[None], folder: Path
) -> None:
    train_once("m", model(), partial(shift, by=0.1))
    train_once("m", other(), training)
    assert len(runs) == len(list(folder.iterdir())) == 2


def test_tied_weights_stay_tied() -> None:
    def tied() -> nn.Module:
        made = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
        made[1].weight = made[0].weight
        return made.requires_grad_(False)

    with seeded(0):
        first = tied()
    with seeded(0):
        second = tied()
    train_once("m", first, partial(shift, by=1.0))
    train_once("m", second, partial(shift, by=1.0))
    assert second[1].weight is second[0].weight
    assert weights(first) == weights(second)


def test_a_file_that_cannot_be_read_is_named_and_kept(folder: Path) -> None:
    train_once("m", model(), partial(shift, by=0.1))
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(
        InvalidInputError, match=rf"{file.name}: cannot read the trained weights .* delete the file"
    ):
        train_once("m", model(), partial(shift, by=0.1))
    assert len(file.read_bytes()) == 50


def test_nothing_is_left_when_training_fails(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        cached("m", ".txt", [1], fail)
    assert list(folder.iterdir()) == []
    assert cached("m", ".txt", [1], lambda path: path.write_text("whole") and None).read_text() == "whole"


def test_without_a_variable_files_go_to_an_ignored_folder_of_the_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BITALLOC_CACHE")
    root = Path(__file__).parents[3]
    path = cached("probe", ".txt", ["test"], lambda path: path.write_text("whole") and None)
    try:
        assert path.parent == root / ".cache" / "bitalloc-zoo"
        assert ".cache/" in (root / ".gitignore").read_text().splitlines()
    finally:
        path.unlink()


def test_threads_and_the_generator_are_back_afterwards() -> None:
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    with one_thread(), seeded(5):
        assert torch.get_num_threads() == 1
        torch.rand(1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)


def test_layout_and_comments_of_a_function_do_not_count() -> None:
    def first(value: float) -> float:
        return value + 1

    plain = source(first)

    def first(value: float) -> float:  # type: ignore[no-redef]
        # The same again.
        return (
            value
            + 1
        )  # fmt: skip

    assert source(first) == plain
    assert source(shift) != source(shift_back)
