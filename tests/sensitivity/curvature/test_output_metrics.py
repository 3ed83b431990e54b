"""Metrics of outputs against their definitions: distances, Hessians, roots and drawn labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sensitivity.curvature.output_metrics import METRICS, sample_means

every_metric = pytest.mark.parametrize("name", METRICS)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hessian(name: str, outputs: Tensor) -> Tensor:
    """(C, C), by differentiating the distance twice where both outputs are the same."""
    metric = METRICS[name]
    made: Tensor = torch.autograd.functional.hessian(
        lambda other: metric.distance(outputs, other), outputs.clone()
    )
    return made


@every_metric
def test_the_quadratic_form_is_the_second_order_term_of_the_distance(name: str) -> None:
    outputs, change = rows(5), rows(5, seed=1)
    expected = 0.5 * change @ hessian(name, outputs) @ change
    torch.testing.assert_close(METRICS[name].quadratic(outputs, change), expected)
    small = 1e-3 * change
    near = METRICS[name].distance(outputs, outputs + small)
    torch.testing.assert_close(near, 1e-6 * expected, rtol=1e-2, atol=0.0)


@every_metric
def test_the_root_times_itself_is_the_hessian(name: str) -> None:
    outputs = rows(5)
    columns = [METRICS[name].root(outputs, unit) for unit in torch.eye(5, dtype=torch.float64)]
    root = torch.stack(columns, dim=1)
    torch.testing.assert_close(root @ root.T, hessian(name, outputs))


@every_metric
def test_labels_drawn_from_the_model_have_the_hessian_as_their_fisher_information(name: str) -> None:
    outputs = rows(4).repeat(20_000, 1).requires_grad_()
    losses = METRICS[name].label_loss(outputs, torch.Generator().manual_seed(0))
    (scores,) = torch.autograd.grad(losses.sum(), outputs)
    assert scores.mean(0).abs().max() < 0.05  # the score has mean zero
    torch.testing.assert_close(scores.T @ scores / len(scores), hessian(name, rows(4)), rtol=0.05, atol=0.02)


@every_metric
def test_rows_are_independent_and_one_axis_shorter(name: str) -> None:
    metric, outputs, change = METRICS[name], rows(2, 3, 4), rows(2, 3, 4, seed=1)
    for made, one in (
        (metric.distance(outputs, outputs + change), metric.distance),
        (metric.quadratic(outputs, change), lambda z, d: metric.quadratic(z, d - z)),
    ):
        assert made.shape == (2, 3)
        torch.testing.assert_close(made[1, 2], one(outputs[1, 2], (outputs + change)[1, 2]))
    assert metric.root(outputs, change).shape == (2, 3, 4)
    assert metric.label_loss(outputs, torch.Generator()).shape == (2, 3)


def test_divergence_by_hand() -> None:
    half, skewed = torch.tensor([0.0, 0.0]), torch.tensor([0.0, math.log(3)])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(METRICS["softmax_kl"].distance(half, skewed)) == pytest.approx(expected)


def test_divergence_is_that_of_torch_and_survives_masked_logits() -> None:
    first, second = rows(3, 5), rows(3, 5, seed=1)
    expected = functional.kl_div(
        second.log_softmax(-1), first.log_softmax(-1), log_target=True, reduction="none"
    )
    metric = METRICS["softmax_kl"]
    torch.testing.assert_close(metric.distance(first, second), expected.sum(-1))
    masked = [torch.cat([item, torch.full((3, 1), -torch.inf)], dim=1) for item in (first, second)]
    torch.testing.assert_close(metric.distance(*masked), expected.sum(-1))
    change = torch.cat([second, torch.full((3, 1), torch.nan)], dim=1)
    torch.testing.assert_close(metric.quadratic(masked[0], change), metric.quadratic(first, second))


def test_a_divergence_in_single_precision_never_falls_below_zero_by_more_than_rounding() -> None:
    logits = rows(64, 1000).float() * 10
    assert float(METRICS["softmax_kl"].distance(logits, logits + 1e-6).min()) > -1e-12


def test_rows_of_a_sample_are_averaged() -> None:
    assert sample_means(torch.tensor([[1.0, 3.0], [5.0, 5.0]])).tolist() == [2, 5]
    assert sample_means(torch.tensor([1.0, 3.0])).tolist() == [1, 3]
    assert sample_means(torch.ones(2, 3, 4)).tolist() == [1, 1]
