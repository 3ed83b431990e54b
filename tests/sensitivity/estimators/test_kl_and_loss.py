"""Measured divergences and losses against a full forward pass for every entry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from allocator import CostTable, InvalidInputError
from quantize import round_trip
from sensitivity import Study
from sensitivity.estimators import kl, loss
from tests.sensitivity.studies import Blocks, make_study, state

BATCHES = [torch.linspace(-1, 1, 20).reshape(5, 4), torch.linspace(2, -1, 12).reshape(3, 4)]


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made


def cross_entropy(model: nn.Module, batch: Tensor) -> Tensor:
    return functional.cross_entropy(model(batch), torch.arange(len(batch)) % 3, reduction="none")


def study_of(batches: list[Tensor] = BATCHES, **options: Any) -> Study:
    return make_study(Blocks(), batches, cross_entropy, **options)


def naive(study: Study, distance: Any, outputs: Any) -> np.ndarray:
    """(L, F, N): the whole model again for each entry."""
    table = []
    with torch.no_grad():
        before = [outputs(study.model, batch) for batch in study.batches]
        for layer in study.layers:
            original = layer.weight.clone()
            for fmt in study.formats:
                layer.weight.copy_(torch.from_numpy(round_trip(original.numpy(), fmt)))
                pairs = [
                    (one, outputs(study.model, batch))
                    for one, batch in zip(before, study.batches, strict=True)
                ]
                table.append(torch.cat([distance(*pair) for pair in pairs]).numpy())
                layer.weight.copy_(original)
    return np.array(table).reshape(len(study.layers), len(study.formats), -1)


def divergence(original: Tensor, changed: Tensor) -> Tensor:
    p, q = original.double().softmax(-1), changed.double().softmax(-1)
    rows = (p * (p / q).log()).sum(-1)
    return rows.flatten(1).mean(1) if rows.dim() > 1 else rows


def check(made: CostTable, samples: np.ndarray) -> None:
    np.testing.assert_allclose(made.values, samples.mean(axis=2), rtol=1e-7, atol=1e-15)
    errors = samples.std(axis=2, ddof=1) / samples.shape[2] ** 0.5
    np.testing.assert_allclose(made.stderr, errors, rtol=1e-7, atol=1e-15)
    assert np.abs(samples[:, 0]).sum() > 0


def test_divergences_are_those_of_whole_forward_passes() -> None:
    study = study_of()
    made = kl(study, logits=logits)
    check(made, naive(study, divergence, logits))
    assert (np.array(made.values) >= 0).all()
    assert (
        made.meaning
        == "mean KL(original ‖ quantized), nats per sample; measured, one layer quantized at a time"
    )


def test_rows_of_a_sample_are_averaged() -> None:
    study = study_of([torch.linspace(-2, 2, 24).reshape(2, 3, 4)])
    check(kl(study, logits=logits), naive(study, divergence, logits))


def test_increases_of_the_loss_are_those_of_whole_forward_passes() -> None:
    study = study_of()
    made = loss(study)
    check(made, naive(study, lambda one, other: other.double() - one.double(), cross_entropy))
    assert "increase of the calibration loss" in made.meaning


def test_decreases_of_the_loss_are_kept() -> None:
    # Labels that the rounded model likes better than the original one does.
    study = study_of(formats=["int2"])
    flipped = replace(study, loss_fn=lambda model, batch: -cross_entropy(model, batch))
    assert np.array_equal(np.array(loss(study).values), -np.array(loss(flipped).values))
    assert (np.array(loss(study).values) != 0).any()


@pytest.mark.parametrize(
    ("outputs", "detail"),
    [
        (lambda model, batch: model(batch)[:, 0], r"/outputs: expected outputs of shape \(B, …, C\)"),
        (lambda model, batch: model(batch) * torch.nan, "/batches: the original model already gives NaN"),
    ],
)
def test_logits_that_cannot_be_used_are_refused(outputs: Any, detail: str) -> None:
    study = study_of()
    before = state(study.model)
    with pytest.raises(InvalidInputError, match=detail):
        kl(study, logits=outputs)
    assert state(study.model) == before


def test_a_loss_that_becomes_nan_is_refused_with_layer_and_format() -> None:
    study = study_of(formats=["fp32", "int2"])
    plain = study.layers[1].weight.detach().clone()

    def breaks(model: nn.Module, batch: Tensor) -> Tensor:
        changed = not torch.equal(model.blocks[0][0].weight, plain)  # type: ignore[union-attr, index]
        return cross_entropy(model, batch) * (torch.nan if changed else 1)

    before = state(study.model)
    detail = r"/batches: layer 'blocks\.0\.0' in format 'int2' gives a distance that is not finite"
    with pytest.raises(InvalidInputError, match=detail):
        loss(replace(study, loss_fn=breaks))
    assert state(study.model) == before


def test_a_loss_that_is_one_number_for_the_batch_is_refused() -> None:
    study = study_of()
    with pytest.raises(InvalidInputError, match="/loss_fn: expected one loss per sample"):
        loss(replace(study, loss_fn=lambda model, batch: cross_entropy(model, batch).mean()))
