"""Shares of relevance, the table that is made of them, and what a relevance pass leaves behind."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quantize import round_trip
from sensitivity import Study, lrp, relevance
from sensitivity.relevance.rules import ATTN_LRP
from sensitivity.study.tasks import serial
from tests.sensitivity.estimators.lrp_cases import Residual, first_output, random, seeded, small
from tests.sensitivity.studies import make_study, squares, state


def test_two_layers_by_hand() -> None:
    # x = (1, 2) → z = 1·1 − 1·2 = −1 and 1·1 + 1·2 = 3 → relu 0, 3 → y = 2·3 = 6. All of 6 goes to the second
    # hidden unit: |R| is 6 at each layer. At the inputs 3 = 1 + 2 shares 6 as 2 and 4, so nothing is lost.
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    model[2].weight.data = torch.tensor([[5.0, 2.0]])
    found = relevance(make_study(model, [torch.tensor([[1.0, 2.0]])], first_output))
    np.testing.assert_allclose(found.shares, [0.5, 0.5], rtol=1e-6)
    assert found.conservation_error < 1e-5
    assert found.stderr is None
    # With a bias of 2 in the last layer, y = 8 and a quarter of the relevance is lost to the bias.
    model[2].bias = nn.Parameter(torch.tensor([2.0]))
    found = relevance(make_study(model, [torch.tensor([[1.0, 2.0]])], first_output))
    np.testing.assert_allclose(found.shares, [6 / 14, 8 / 14], rtol=1e-6)
    assert found.conservation_error == pytest.approx(0.25, rel=1e-5)


def test_shortcuts_that_are_added_in_place_make_no_difference() -> None:
    class Shortcut(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.in_place = in_place
            self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden: Tensor = self.first(inputs)
            if self.in_place:
                hidden += inputs
            else:
                hidden = hidden + inputs
            result: Tensor = self.second(hidden)
            return result

    found = [
        relevance(
            make_study(seeded(partial(Shortcut, in_place)), [random(4, 5)], squares),
            rules=replace(ATTN_LRP, epsilon=1e-12),
        )
        for in_place in (False, True)
    ]
    np.testing.assert_allclose(found[1].samples, found[0].samples, rtol=1e-8)


def test_the_size_of_batches_and_of_losses_does_not_matter() -> None:
    model, inputs = small(), random(6, 5)
    found = relevance(make_study(model, [inputs[:4], inputs[4:]], squares))
    alone = relevance(make_study(model, list(inputs.split(1)), squares))
    larger = relevance(make_study(model, [inputs], lambda model, batch: 1000 * squares(model, batch)))
    for other in (alone, larger):
        np.testing.assert_allclose(other.samples, found.samples, rtol=1e-9)
        assert other.conservation_error == pytest.approx(found.conservation_error, rel=1e-9)


def test_samples_of_several_consecutive_rows() -> None:
    def contrast(model: nn.Module, batch: Tensor) -> Tensor:
        outputs = model(batch)
        difference: Tensor = (outputs[0::2] - outputs[1::2]).square().sum(1)
        return difference

    model, inputs = small(), random(6, 5)
    together = relevance(make_study(model, [inputs], contrast))
    alone = relevance(make_study(model, list(inputs.split(2)), contrast))
    assert together.samples.shape == (3, 2)
    np.testing.assert_allclose(together.samples, alone.samples, rtol=1e-9)


def test_samples_without_any_relevance_count_as_zero() -> None:
    def never(model: nn.Module, batch: Tensor) -> Tensor:
        return squares(model, batch) * torch.tensor([0.0, 1.0])

    model = small()
    found = relevance(make_study(model, [random(2, 5)], never))
    assert found.samples[0].tolist() == [0, 0]
    assert found.samples[1].sum() == pytest.approx(1)
    nothing = relevance(make_study(model, [random(2, 5)], lambda *pair: 0 * squares(*pair)))
    assert nothing.shares.tolist() == [0, 0]
    assert nothing.conservation_error == 0


def test_a_model_that_is_called_twice_for_a_loss() -> None:
    def twice(model: nn.Module, batch: Tensor) -> Tensor:
        return squares(model, batch) + squares(model, 2 * batch)

    model, inputs = small(), random(3, 5)
    found = relevance(make_study(model, [inputs], twice))
    doubled = torch.stack([inputs, 2 * inputs], 1).flatten(0, 1)
    pairs = relevance(make_study(model, [doubled], lambda *pair: squares(*pair).reshape(-1, 2).sum(1)))
    np.testing.assert_allclose(found.samples, pairs.samples, rtol=1e-9)


def test_calls_of_the_model_without_gradients_do_not_count() -> None:
    def centred(model: nn.Module, batch: Tensor) -> Tensor:
        with torch.no_grad():
            fmt = model(0.5 * batch)
        return (model(batch) - fmt).square().sum(1)

    model, inputs = small(), random(3, 5)
    fmt = model(0.5 * inputs).detach()
    expected = relevance(
        make_study(model, [inputs], lambda model, batch: (model(batch) - fmt).square().sum(1))
    )
    found = relevance(make_study(model, [inputs], centred))
    np.testing.assert_allclose(found.samples, expected.samples, rtol=1e-12)
    assert found.conservation_error == pytest.approx(expected.conservation_error, rel=1e-12)


def test_another_number_than_the_loss_can_be_explained() -> None:
    study = make_study(small(), [random(4, 5)], squares)
    scores = relevance(study, explained=first_output)
    assert np.array_equal(scores.samples, relevance(replace(study, loss_fn=first_output)).samples)
    assert not np.array_equal(scores.samples, relevance(study).samples)


@pytest.mark.parametrize("error", ["output", "weight"])
def test_the_table_is_the_mean_of_share_times_error(error: Any) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.ReLU(), nn.Linear(12, 2)))
    study = make_study(model, [random(3, 2, 6), random(2, 2, 6, seed=2)], squares)
    shares = relevance(study).samples
    samples = np.zeros((5, 2, len(study.formats)))
    for row, sample in enumerate(torch.cat(list(study.batches))):
        inputs = (sample[None], functional.relu(model[:2](sample[None])))
        for index, (layer, given) in enumerate(zip((model[0], model[3]), inputs, strict=True)):
            weight = layer.weight.detach()
            call = functional.conv1d if index == 0 else functional.linear
            for column, fmt in enumerate(study.formats):
                change = torch.from_numpy(round_trip(weight.numpy().astype(np.float32), fmt)) - weight
                pair = (change, weight) if error == "weight" else (call(given, change), call(given, weight))
                ratio = pair[0].square().sum().detach() / pair[1].square().sum().detach()
                samples[row, index, column] = shares[row, index] * float(ratio)
    made = lrp(study, error=error)
    np.testing.assert_allclose(made.values, samples.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(made.stderr, samples.std(axis=0, ddof=1) / np.sqrt(5), rtol=1e-9)
    conserved = relevance(study).conservation_error
    assert f"relative squared {error} error" in made.meaning
    assert made.meaning.endswith(f"relevance conserved up to {conserved:.3g} of itself")


def test_standard_errors_cover_what_they_should() -> None:
    """Of 200 draws of 25 samples, about 95 % have the true mean within 2 standard errors."""
    model = small().float()
    everything = torch.randn(5000, 5, generator=torch.Generator().manual_seed(3))
    truth = relevance(make_study(model, [everything], squares)).shares
    found = [relevance(make_study(model, [part], squares)) for part in everything.split(25)]
    near = [np.abs(item.shares - truth) < 2 * item.stderr for item in found if item.stderr is not None]
    assert 0.90 < np.mean(near) < 0.98


def test_progress_is_told_and_pieces_are_named_by_batch_and_format() -> None:
    told: list[tuple[str, int, int]] = []
    study = make_study(small(), list(random(4, 5).split(2)), squares, ["int2", "int4", "int8"])
    lrp(replace(study, progress=lambda *step: told.append(step)))
    assert told == [
        *(("relevance", done, 2) for done in (1, 2)),
        *(("output_error", done, 3) for done in (1, 2, 3)),
    ]


def test_pieces_can_be_sent_to_another_process() -> None:
    kept: list[Any] = []

    def engine(study: Study, stage: str, keys: Any, measure: Any) -> Any:
        kept.append(pickle.loads(pickle.dumps(measure)))
        return serial(study, stage, keys, kept[-1])

    study = make_study(small(), [random(4, 5)], squares)
    assert lrp(replace(study, engine=engine)) == lrp(study)
    assert len(kept) == 2


def test_scores_that_are_masked_with_infinity_carry_no_relevance() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(inputs).masked_fill(torch.tensor([False, False, True]), -torch.inf)

    found = relevance(make_study(seeded(Masked), [random(4, 5)], first_output))
    assert np.isfinite(found.conservation_error)


def test_the_model_is_as_it_was_and_two_runs_agree_bit_for_bit() -> None:
    model = seeded(Residual)
    model.stem.weight.requires_grad_(False)
    study = make_study(model, [random(3, 1, 4, 4)], squares)
    before = state(model)
    first = lrp(study)
    assert state(model) == before
    assert lrp(study) == first


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
@pytest.mark.parametrize("where", ["loss", "model"])
def test_the_model_is_as_it_was_when_a_batch_raises(where: str, calls: int) -> None:
    left = itertools.count()

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        breaks = next(left) == calls
        if breaks and where == "loss":
            model(batch)
            raise RuntimeError("broke")
        return squares(model, batch[:, :-1] if breaks else batch)

    study = make_study(small(), list(random(4, 5).split(2)), loss, ["int2"])
    before = state(study.model)
    outputs = study.model(study.batches[0])
    with pytest.raises(RuntimeError, match="broke" if where == "loss" else "shapes cannot be multiplied"):
        lrp(study)
    assert state(study.model) == before
    assert torch.equal(study.model(study.batches[0]), outputs)
    squares(study.model, study.batches[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in study.model.parameters())
