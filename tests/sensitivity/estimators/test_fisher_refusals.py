"""Losses that mix samples or do not reach a layer, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from sensitivity import fisher
from tests.sensitivity.estimators.fisher_cases import MIXED, centred, drawn, linear, logits, seeded
from tests.sensitivity.studies import make_study, squares


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"labels": "true"}, "/labels: unknown kind of labels 'true'; known: 'given', 'sampled'"),
        ({"labels": "sampled"}, "/outputs: labels='sampled' needs a function"),
        ({"outputs": logits}, "/outputs: .*'given' takes none"),
        ({"labels": "sampled", "outputs": logits, "metric": "mse"}, "/metric: unknown metric 'mse'"),
        (
            {"labels": "sampled", "outputs": lambda *pair: logits(*pair).sum(1)},
            "/outputs: expected outputs of",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        fisher(make_study(linear(), [drawn(4, 5)], squares), **options)


@pytest.mark.parametrize(
    ("loss", "detail"),
    [
        (lambda model, batch: squares(model, batch).sum(), "/loss_fn: expected one loss per sample"),
        (lambda model, batch: squares(model, batch)[:0], "/batches: a batch gives no losses"),
    ],
)
def test_losses_that_are_not_one_number_per_sample_are_refused(loss: Any, detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        fisher(make_study(linear(), [drawn(4, 5)], loss))


def test_losses_that_mix_samples_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=MIXED):
        fisher(make_study(linear(), [drawn(4, 5)], centred))


def test_batch_normalisation_in_training_mode_is_refused() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)))
    study = make_study(model, [drawn(4, 5)], squares)
    model[1].train()
    with pytest.raises(InvalidInputError, match=MIXED):
        fisher(study)


def test_other_samples_that_are_held_constant_are_accepted() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        outputs = model(batch)
        return (outputs - outputs.detach().mean(0)).square().sum(1)

    assert fisher(make_study(linear(), [drawn(4, 5)], loss, ["int2"])).values[0][0] > 0


def test_rows_that_are_not_consecutive_are_refused() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        outputs = model(batch)
        return (outputs[:4] - outputs[4:]).square().sum(1)

    with pytest.raises(InvalidInputError, match=MIXED):
        fisher(make_study(linear(), [drawn(8, 5)], loss))


def test_losses_that_mix_samples_are_refused_when_the_first_batch_holds_one() -> None:
    with pytest.raises(InvalidInputError, match=MIXED):
        fisher(make_study(linear(), [drawn(1, 5), drawn(4, 5)], centred))


def test_losses_that_look_back_at_earlier_samples_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=MIXED):
        fisher(make_study(linear(), [drawn(4, 5)], lambda model, batch: squares(model, batch).cumsum(0)))


def test_a_layer_that_takes_no_part_is_refused() -> None:
    model = seeded(lambda: nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)]))
    study = make_study(model, [drawn(4, 5)], lambda model, batch: squares(model[0], batch))
    with pytest.raises(InvalidInputError, match="/layers/1: takes no part in the loss; exclude it"):
        fisher(study)


def test_a_model_of_which_no_layer_takes_part_is_refused() -> None:
    def loss(model: Any, batch: Tensor) -> Tensor:
        return batch.sum(1) * model[0].bias.sum()

    with pytest.raises(InvalidInputError, match="/layers/0: takes no part in the loss"):
        fisher(make_study(linear(), [drawn(4, 5)], loss))


def test_a_loss_that_is_cut_off_from_the_model_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/loss_fn"):
        fisher(make_study(linear(), [drawn(4, 5)], lambda model, batch: squares(model, batch).detach()))


def test_rows_that_do_not_divide_into_samples_are_refused() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return squares(model, batch)[:3]

    detail = "/loss_fn: layer '0' sees 4 rows for 3 losses; the rows of a sample must be consecutive and equally many"
    with pytest.raises(InvalidInputError, match=detail):
        fisher(make_study(linear(), [drawn(4, 5)], loss))


def test_gradients_that_are_not_finite_are_refused_by_layer() -> None:
    batches = [drawn(4, 5), torch.full((4, 5), torch.nan, dtype=torch.float64)]
    with pytest.raises(InvalidInputError, match="/layers/0: its gradient is NaN or infinite"):
        fisher(make_study(linear(), batches, squares))
