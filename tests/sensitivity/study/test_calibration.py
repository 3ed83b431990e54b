"""Data that would make a profile meaningless is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from allocator import InvalidInputError
from sensitivity.study.calibration import check_losses, collect, digest
from tests.sensitivity.studies import Blocks, squares


def loader(*, shuffle: bool) -> DataLoader[Any]:
    torch.manual_seed(0)
    data = TensorDataset(torch.arange(64.0).reshape(32, 2))
    return DataLoader(data, batch_size=8, shuffle=shuffle)


def test_a_list_is_kept_as_it_is() -> None:
    batches = [torch.ones(2), torch.zeros(2)]
    kept = collect(batches)
    assert len(kept) == 2
    assert kept[0] is batches[0]
    assert kept[1] is batches[1]


def test_a_loader_without_shuffling_is_kept() -> None:
    kept = collect(loader(shuffle=False))
    assert torch.equal(torch.cat([batch for (batch,) in kept]), torch.arange(64.0).reshape(32, 2))


@pytest.mark.parametrize("batches", [[], (), iter([])])
def test_no_batches_are_refused(batches: Any) -> None:
    with pytest.raises(
        InvalidInputError, match="/batches: expected at least one calibration batch, got none"
    ):
        collect(batches)


def test_a_shuffling_loader_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="/batches: two passes over the batches differ; turn off shuffling"
    ):
        collect(loader(shuffle=True))


class Augmented(Sequence[Tensor]):
    """Adds noise to whatever it is asked for."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        if index >= 2:
            raise IndexError
        return torch.ones(3) + torch.rand(3)


def test_a_sequence_that_gives_something_else_each_time_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"two passes over the batches differ; turn off .* augmentation"
    ):
        collect(Augmented())


def test_a_generator_is_refused_because_it_has_no_second_pass() -> None:
    with pytest.raises(InvalidInputError, match=r"two passes over the batches differ; .* or pass a list"):
        collect(torch.ones(2) for _ in range(3))


def test_batches_that_cannot_be_hashed_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="/batches: cannot hash a ndarray; use tensors, numbers, texts"
    ):
        collect([{"inputs": np.ones(3)}])


NESTED = [
    {"ids": torch.tensor([[1, 2], [3, 4]]), "text": ["a", "b"]},
    (torch.ones(2, 3), 5, None, True, b"x", 0.5),
]


def test_the_digest_depends_on_content_only() -> None:
    copied = [
        {"text": ["a", "b"], "ids": torch.tensor([[1, 3], [2, 4]]).T},
        [torch.ones(2, 3).requires_grad_(), 5, None, True, b"x", 0.5],
    ]
    assert digest(copied) == digest(NESTED)
    assert len(digest(NESTED)) == 64


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.zeros(4), torch.zeros(2, 2)),
        (torch.zeros(2), torch.tensor([0.0, 1e-45])),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2), torch.tensor([0.0, -0.0])),
        (torch.zeros(2, dtype=torch.int32), torch.zeros(2)),
        (torch.tensor(1), torch.tensor(2)),
        (torch.tensor(1), torch.tensor([1])),
        (torch.tensor(1), torch.tensor(1.0)),
        (1, True),
        (1, 1.0),
        (1, "1"),
        ("a", b"a"),
        (None, "None"),
        (["ab"], ["a", "b"]),
        ([[1], 2], [[1, 2]]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 2}),
        ([torch.zeros(2), torch.ones(2)], [torch.ones(2), torch.zeros(2)]),
    ],
    ids=repr,
)
def test_the_digest_tells_content_apart(first: Any, second: Any) -> None:
    assert digest([first]) != digest([second])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1, 23], [12, 3]),
        ([{"a": 1}, {"b": 2}], [{"a": 1, "b": 2}, {}]),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ({"a=b": 1}, {"a": {"b": 1}}),
    ],
)
def test_the_digest_tells_apart_where_one_value_ends_and_the_next_begins(first: Any, second: Any) -> None:
    assert digest(first) != digest(second)


MODEL = nn.Sequential(nn.Linear(3, 2))
BATCHES = [torch.ones(4, 3)]


def test_a_model_that_repeats_itself_passes() -> None:
    check_losses(MODEL, BATCHES, squares)
    dropout = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).eval()
    check_losses(dropout, BATCHES, squares)


def test_dropout_left_on_is_refused_with_the_difference() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5)).train()
    detail = (
        r"/model: the same batch gave losses that differ by [\d.]+; call model\.eval\(\) to turn off dropout"
    )
    with pytest.raises(InvalidInputError, match=detail):
        check_losses(model, BATCHES, squares)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_losses_that_are_not_finite_are_refused(bad: float) -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return squares(model, batch) * torch.tensor([1, 1, 1, bad])

    detail = (
        "/batches/0: the loss is NaN or infinite: all modules give finite numbers; it is what is made of them"
    )
    with pytest.raises(InvalidInputError, match=detail):
        check_losses(MODEL, BATCHES, loss)


def test_a_batch_that_gives_nan_is_named_with_the_layer_where_it_begins() -> None:
    batches = [torch.ones(4, 4), torch.tensor([[1, 1, torch.nan, 1]])]
    detail = r"/batches/1: the loss is NaN or infinite: 'stem' \(Linear\) is the first to give such numbers"
    with pytest.raises(InvalidInputError, match=detail):
        check_losses(Blocks(), batches, squares)


def test_every_batch_is_looked_at_and_an_empty_one_named() -> None:
    detail = "/batches/1: a batch gives no losses; drop batches without samples"
    with pytest.raises(InvalidInputError, match=detail):
        check_losses(MODEL, [torch.ones(4, 3), torch.ones(0, 3)], squares)


@pytest.mark.parametrize(
    ("reduce", "came"),
    [
        (lambda losses: losses.mean(), r"a tensor of shape \(\)"),
        (lambda losses: losses[:, None], r"a tensor of shape \(4, 1\)"),
        (lambda losses: losses.mean().item(), "float"),
        (lambda losses: losses.tolist(), "list"),
    ],
    ids=["mean", "column", "number", "list"],
)
def test_anything_but_one_loss_per_sample_is_refused(reduce: Callable[[Tensor], Any], came: str) -> None:
    detail = (
        rf"/loss_fn: expected one loss per sample, a tensor of shape \(B,\), got {came}; use reduction='none'"
    )
    with pytest.raises(InvalidInputError, match=detail):
        check_losses(MODEL, BATCHES, lambda model, batch: reduce(squares(model, batch)))
