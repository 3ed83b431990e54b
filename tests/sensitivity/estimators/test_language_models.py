"""Estimators on a Llama and a mixture of experts: caches, rotary embeddings, routed tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from quantize import round_trip
from sensitivity import Study, fisher, gauss_newton, hessian_trace, kl, loss, output_mse
from sensitivity.models.expert_stacks import split_experts
from tests.sensitivity.language_models import llama, logits, mixtral, next_token, tokens
from tests.sensitivity.studies import make_study, state


@pytest.fixture(params=["llama", "mixtral"])
def study(request: pytest.FixtureRequest) -> Iterator[Study]:
    batches, formats = [tokens(3), tokens(2, seed=1)], ["int2-g8", "int8-g8"]
    if request.param == "llama":
        yield make_study(llama(), batches, next_token, formats)
        return
    model = mixtral()
    with split_experts(model):
        yield make_study(model, batches, next_token, formats)


def increases(study: Study) -> np.ndarray:
    """(L, F): the whole model again for each entry."""
    table = []
    with torch.no_grad():
        before = [next_token(study.model, batch) for batch in study.batches]
        for layer in study.layers:
            original = layer.weight.clone()
            for fmt in study.formats:
                layer.weight.copy_(torch.from_numpy(round_trip(original.numpy(), fmt)))
                after = [next_token(study.model, batch) for batch in study.batches]
                gaps = [two.double() - one.double() for one, two in zip(before, after, strict=True)]
                table.append(float(torch.cat(gaps).mean()))
                layer.weight.copy_(original)
    return np.array(table).reshape(len(study.layers), -1)


def test_reuse_gives_the_bits_of_whole_forward_passes(study: Study) -> None:
    before = state(study.model)
    np.testing.assert_allclose(loss(study).values, increases(study), rtol=1e-12, atol=1e-16)
    assert state(study.model) == before


def test_second_order_changes_are_the_measured_ones_where_perturbations_are_small(study: Study) -> None:
    measured = np.array(kl(study, logits=logits).values)[:, 1]
    for together in (True, False):
        made = np.array(gauss_newton(study, outputs=logits, together=together).values)[:, 1]
        assert np.median(made / measured) == pytest.approx(1, abs=0.05)


def test_every_layer_has_a_trace_and_an_output_error(study: Study) -> None:
    before = state(study.model)
    traces = np.array(hessian_trace(study, 4, curvature="gauss_newton", outputs=logits).values)
    assert (traces[:, 0] > 0).all()
    assert np.isfinite(hessian_trace(study, 2).values).all()
    assert (np.array(output_mse(study).values)[:, 0] > 0).all()
    assert state(study.model) == before


def test_fisher_information_of_a_llama_is_that_of_the_loop() -> None:
    study = make_study(llama(), [tokens(3)], next_token, ["int2-g8"])
    (batch,) = study.batches
    expected: list[list[float]] = []
    for index in range(len(batch)):
        (value,) = next_token(study.model, batch[index : index + 1])
        gradients = torch.autograd.grad(value, [layer.weight for layer in study.layers])
        expected.append(
            [
                _weighted(gradient, layer.weight, study)
                for gradient, layer in zip(gradients, study.layers, strict=True)
            ]
        )
    np.testing.assert_allclose(np.array(fisher(study).values)[:, 0], np.mean(expected, axis=0), rtol=1e-3)


def _weighted(gradient: torch.Tensor, weight: nn.Parameter, study: Study) -> float:
    plain = weight.detach().numpy()
    error = round_trip(plain, study.formats[0]) - plain
    return float((np.square(gradient.numpy().astype(float)) * np.square(error.astype(float))).sum())
