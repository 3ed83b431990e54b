"""Traces of the Gauss-Newton matrix against the dense one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from allocator import InvalidInputError
from sensitivity import Study, hessian_trace
from tests.sensitivity.estimators.trace_cases import (
    diagonal,
    drawn,
    every_model,
    gauss_newton,
    one_layer,
    outputs,
    perceptron,
    squared_error,
    study_of,
)
from tests.sensitivity.studies import make_study, squares, state


def dense_gauss_newton(study: Study, metric: str) -> list[float]:
    """Trace of each layer's block of the mean of JᵀHJ, from Jacobians row by row."""
    weights = [layer.weight for layer in study.layers]
    traces = np.zeros(len(weights))
    made = outputs(study.model, study.batches[0])
    rows = made.reshape(-1, made.shape[-1])
    for row in rows:
        p = torch.softmax(row.detach(), 0)
        middle = (
            torch.eye(len(row)).to(row) if metric == "squared_error" else torch.diag(p) - torch.outer(p, p)
        )
        jacobians = [torch.autograd.grad(value, weights, retain_graph=True) for value in row]  # C × L
        for index in range(len(weights)):
            jacobian = torch.stack([parts[index].flatten() for parts in jacobians])  # (C, n)
            traces[index] += float((jacobian.T @ middle @ jacobian).trace()) / len(rows)
    return list(traces)


@every_model
@pytest.mark.parametrize("metric", ["softmax_kl", "squared_error"])
def test_gauss_newton_probes_come_within_a_few_standard_errors_of_the_dense_matrix(
    name: str, metric: str
) -> None:
    study = study_of(name, formats=["int2"])
    made = gauss_newton(study, probes=400, metric=metric)
    values, errors = np.array(made.values)[:, 0], np.array(made.stderr)[:, 0]
    truth = [
        trace / layer.weight.numel() * squared_error(layer.weight, study.formats[0])
        for trace, layer in zip(dense_gauss_newton(study, metric), study.layers, strict=True)
    ]
    assert (np.abs(values - truth) <= 4 * errors).all()
    assert (errors <= 0.1 * np.abs(truth)).all()
    assert f"Gauss-Newton ({metric})" in made.meaning


@pytest.mark.parametrize("metric", ["softmax_kl", "squared_error"])
def test_single_gauss_newton_probes_of_many_seeds_average_to_the_dense_trace(metric: str) -> None:
    model, batches = perceptron(), [drawn(5, 3)]
    studies = [make_study(model, batches, squares, ["int2"], seed=seed) for seed in range(300)]
    draws = np.array([gauss_newton(study, probes=1, metric=metric).values for study in studies])[..., 0]
    truth = [
        trace / layer.weight.numel() * squared_error(layer.weight, studies[0].formats[0])
        for trace, layer in zip(dense_gauss_newton(studies[0], metric), studies[0].layers, strict=True)
    ]
    standard = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - truth) <= 4 * standard).all()
    assert (draws >= 0).all()


def test_the_hessian_of_a_linear_model_under_cross_entropy_is_its_gauss_newton_matrix() -> None:
    labels = torch.tensor([0, 2, 1, 1])

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return functional.cross_entropy(model(batch), labels, reduction="none")

    study = make_study(one_layer(), [drawn(4, 5)], loss, ["int2"])
    exact, estimate = hessian_trace(study, probes=600), gauss_newton(study, probes=600)
    assert estimate.values[0][0] == pytest.approx(exact.values[0][0], rel=0.1)


def test_a_batch_counts_by_its_samples() -> None:
    # 2 b = 2 in a batch of three samples and 10 in a batch of one: the mean loss has 2 · (1 + 1 + 1 + 5) / 4 = 4.
    study = make_study(one_layer(), [torch.ones(3), torch.tensor([5.0])], diagonal, ["int2"])
    squared = squared_error(study.layers[0].weight, study.formats[0])
    assert hessian_trace(study, probes=2).values[0][0] == pytest.approx(4 * squared, rel=1e-12)


def test_a_gauss_newton_matrix_that_is_not_finite_is_refused_by_layer() -> None:
    batches = [torch.full((2, 3), torch.nan, dtype=torch.float64)]
    with pytest.raises(
        InvalidInputError, match="/batches: the Gauss-Newton matrix of layer '0' is not finite"
    ):
        gauss_newton(make_study(perceptron(), batches, squares))


def test_the_model_is_as_it_was_after_gauss_newton_probes() -> None:
    study = study_of("convolutional")
    study.layers[1].weight.requires_grad_(False)
    before = state(study.model)
    gauss_newton(study, probes=2)
    assert state(study.model) == before
