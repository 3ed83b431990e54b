"""Models, losses and batches that cannot be explained, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from allocator import InvalidInputError
from sensitivity import lrp
from sensitivity.estimators.lrp import relevance
from tests.sensitivity.estimators.lrp_cases import Fused, first_output, random, seeded, small
from tests.sensitivity.studies import make_study, squares, state


def test_an_activation_that_is_not_finite_names_the_layer() -> None:
    model = small()
    model[2].weight.data[0, 0] = torch.nan
    study = make_study(model, [random(2, 5)], squares)
    before = state(model)
    with pytest.raises(
        InvalidInputError, match="/layers/2: its output is NaN or infinite on a calibration batch"
    ):
        relevance(study)
    assert state(model) == before


def test_relevance_that_is_not_finite_names_the_layers() -> None:
    model = small()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    study = make_study(model, [random(2, 5)], lambda model, batch: model(batch).sqrt().sum(1))
    with pytest.raises(InvalidInputError, match="/layers/2: its relevance is NaN or infinite"):
        relevance(study)


def test_a_layer_that_takes_no_part_is_refused() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.used(inputs)
            return result

    study = make_study(Idle().double(), [random(2, 5)], squares)
    for estimate in (relevance, lambda study: lrp(replace(study, layers=study.layers[1:]))):
        with pytest.raises(InvalidInputError, match="/layers/idle: takes no part in the loss; exclude it"):
            estimate(study)


@pytest.mark.parametrize(
    ("loss", "detail"),
    [
        (lambda model, batch: squares(model[0], batch), "/loss_fn: never calls the studied model itself"),
        (lambda model, batch: squares(model, batch).detach(), "/loss_fn: the losses do not depend on what"),
        (
            lambda model, batch: squares(model, batch).sum(),
            r"/loss_fn: expected one number per sample.*shape \(\)",
        ),
        (
            lambda model, batch: squares(model, batch).tolist(),
            "/loss_fn: expected one number per sample.*got list",
        ),
        (lambda model, batch: squares(model, batch)[:3], "/layers/0: sees 4 rows for 3 losses"),
        (
            lambda model, batch: squares(model, batch).cumsum(0),
            "/loss_fn: the loss of one sample depends on the rows",
        ),
    ],
)
def test_losses_that_cannot_be_traced_are_refused(loss: Any, detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        relevance(make_study(small(), [random(4, 5)], loss))


def test_a_batch_without_samples_is_refused() -> None:
    batches = [random(2, 5), random(2, 5)[:0]]
    with pytest.raises(InvalidInputError, match="/batches/1: holds no samples; leave it out"):
        relevance(make_study(small(), batches, squares))


def test_sequences_that_run_before_the_batch_are_refused() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        outputs: Tensor = model(batch.transpose(0, 1))  # (T, B, D)
        return outputs.square().sum((0, 2))

    with pytest.raises(InvalidInputError, match="sequence before batch"):
        relevance(make_study(small(), [random(2, 4, 5)], loss))


def test_a_model_that_changes_activations_behind_its_own_back_is_refused() -> None:
    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden: Tensor = self.layer(inputs)
            functional.relu(hidden, inplace=True)
            return hidden

    with pytest.raises(
        InvalidInputError, match=r"/model: gives losses that differ by .* under the relevance rules"
    ):
        relevance(make_study(seeded(Behind), [random(4, 5)], squares))


def test_attention_with_learned_keys_is_refused() -> None:
    fused = seeded(lambda: nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True))
    study = make_study(nn.Sequential(Fused(fused)), [random(3, 5, 6)], first_output)
    with pytest.raises(InvalidInputError, match=r"/model: nn\.MultiheadAttention without a batch dimension"):
        relevance(study)


def test_an_unknown_error_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="/error: unknown error 'outputs'; did you mean 'output'"):
        lrp(make_study(small(), [random(4, 5)], squares), error="outputs")  # type: ignore[arg-type]
