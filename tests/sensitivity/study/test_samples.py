"""Rows of samples, and losses that say how many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from sensitivity import Study, discover, entropy, lim
from sensitivity.estimators.lrp import relevance
from sensitivity.study.samples import batch_keys, by_sample, require_use, sample_count
from tests.sensitivity.studies import Blocks, make_study, squares


def test_rows_of_a_sample_stay_together() -> None:
    rows = torch.arange(12).reshape(6, 2)
    assert by_sample(rows, 3, "stem")[1].tolist() == [[4, 5], [6, 7]]


@pytest.mark.parametrize("rows", [torch.zeros(5, 2), torch.tensor(1.0)])
def test_rows_that_do_not_divide_are_refused_with_the_layer(rows: torch.Tensor) -> None:
    with pytest.raises(InvalidInputError, match=r"/layers/stem: sees [05] rows for 2 losses"):
        by_sample(rows, 2, "stem")


@pytest.mark.parametrize("losses", [torch.tensor(1.0), torch.zeros(2, 1), [1.0, 2.0], None])
def test_anything_but_one_number_per_sample_is_refused(losses: object) -> None:
    with pytest.raises(InvalidInputError, match="/loss_fn: expected one number per sample"):
        sample_count(losses, 0)


def test_a_batch_without_samples_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/batches/7: holds no samples; leave it out"):
        sample_count(torch.zeros(0), 7)


def test_every_layer_that_takes_no_part_is_named() -> None:
    layers = discover(nn.Sequential(*(nn.Linear(1, 1) for _ in range(3))))
    require_use(layers, [True] * 3)
    with pytest.raises(InvalidInputError, match=r"/layers/0: takes no part.*\n/layers/2: takes no part"):
        require_use(layers, [False, True, False])


@pytest.mark.parametrize("estimate", [relevance, lim, entropy])
def test_a_study_without_batches_is_refused(estimate: Callable[[Study], object]) -> None:
    assert batch_keys([None]) == [("0",)]
    with pytest.raises(
        InvalidInputError, match="/batches: expected at least one calibration batch, got none"
    ):
        estimate(make_study(Blocks(), [], squares))
