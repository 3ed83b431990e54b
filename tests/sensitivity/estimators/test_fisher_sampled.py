"""Labels drawn from the model itself."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sensitivity import fisher
from sensitivity.curvature.output_metrics import METRICS
from sensitivity.study.study import derived_seed
from tests.sensitivity.estimators.fisher_cases import drawn, linear, logits, seeded, weighted
from tests.sensitivity.studies import make_study, squares

every_metric = pytest.mark.parametrize("metric", METRICS)


sampled = partial(fisher, labels="sampled", outputs=logits)


@every_metric
@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4)], ids=["rows", "sequences"])
def test_sampled_labels_give_what_a_loop_over_samples_gives_for_the_same_draws(
    metric: str, shape: tuple[int, ...]
) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))
    batches = [drawn(*shape), drawn(*shape, seed=2)]
    study = make_study(model, batches, squares)
    samples = []
    for index, batch in enumerate(batches):
        generator = torch.Generator().manual_seed(derived_seed(0, "fisher", index))
        losses = METRICS[metric].label_loss(model(batch), generator).reshape(len(batch), -1)
        for loss in losses.sum(1) / losses.shape[1] ** 0.5:
            gradients = torch.autograd.grad(loss, [layer.weight for layer in study.layers], retain_graph=True)
            samples.append(
                [
                    [weighted(gradient, layer.weight, fmt) for fmt in study.formats]
                    for gradient, layer in zip(gradients, study.layers, strict=True)
                ]
            )
    made = sampled(study, metric=metric)
    np.testing.assert_allclose(made.values, np.mean(samples, axis=0), rtol=1e-9)
    np.testing.assert_allclose(made.stderr, np.std(samples, axis=0, ddof=1) / len(samples) ** 0.5, rtol=1e-9)


@every_metric
def test_many_draws_of_labels_average_to_the_diagonal_of_the_gauss_newton_matrix(metric: str) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)))
    inputs = drawn(2, 2, 4)  # two samples of two rows
    study = make_study(model, [inputs.repeat(3000, 1, 1)], squares, ["int2"])
    truth = np.zeros((len(study.layers), 1))
    for row in inputs.reshape(-1, 4):
        outputs = model(row)
        p = outputs.detach().softmax(0)
        middle = torch.eye(3).double() if metric == "squared_error" else torch.diag(p) - torch.outer(p, p)
        for index, layer in enumerate(study.layers):
            jacobian = torch.stack(
                [
                    torch.autograd.grad(value, layer.weight, retain_graph=True)[0].flatten()
                    for value in outputs
                ]
            )  # (C, n)
            diagonal = torch.einsum("cn,cd,dn->n", jacobian, middle, jacobian)
            score = diagonal.sqrt().reshape(layer.weight.shape)
            truth[index, 0] += weighted(score, layer.weight, study.formats[0]) / 4
    made = sampled(study, metric=metric)
    assert (np.abs(np.array(made.values) - truth) <= 4 * np.array(made.stderr)).all()
    assert (np.array(made.stderr) <= 0.1 * truth).all()


def test_draws_depend_on_the_seed_only() -> None:
    model, batches = linear(), [drawn(4, 5)]
    tables = [sampled(make_study(model, batches, squares, seed=seed)) for seed in (0, 0, 1)]
    assert tables[0] == tables[1]
    assert tables[0].values != tables[2].values
    assert "labels drawn from the model, softmax_kl" in tables[0].meaning
