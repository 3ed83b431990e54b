"""Second-order changes against dense Jacobians, finite differences and measured divergences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from allocator import InvalidInputError
from quantize import round_trip
from sensitivity import Study, gauss_newton, kl
from sensitivity.curvature.output_metrics import METRICS
from tests.sensitivity.studies import Blocks, make_study, squares, state


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made


estimate = partial(gauss_newton, outputs=logits)


def _inputs(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Attention(nn.Module):
    """One head of fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = (layer(inputs)[:, None] for layer in (self.query, self.key, self.value))
        return functional.scaled_dot_product_attention(query, key, value)[:, 0]


class Tied(nn.Module):
    """Tokens in, scores of tokens out, with one matrix for both."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.embed(tokens)))
        return result


MODELS: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "blocks": (Blocks, [_inputs(3, 4), _inputs(2, 4, seed=2)]),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(8, 3)),
        [_inputs(2, 2, 3, 3)],
    ),
    "attention": (Attention, [_inputs(2, 3, 4)]),
    "tied": (Tied, [torch.tensor([[1, 1, 2], [8, 0, 3]])]),
}
every_model = pytest.mark.parametrize("name", MODELS)
every_metric = pytest.mark.parametrize("metric", METRICS)


def study_of(name: str, **options: Any) -> Study:
    make, batches = MODELS[name]
    torch.manual_seed(0)
    return make_study(make().double(), batches, squares, **options)


def change_of(layer: Any, fmt: Any) -> Tensor:
    plain = layer.weight.detach().numpy()
    return torch.from_numpy(round_trip(plain.astype(np.float32), fmt) - plain)


def dense(study: Study, metric: str) -> np.ndarray:
    """(N, L, F): the Jacobian of every output by every weight, row by row."""
    samples = []
    for batch in study.batches:
        for index in range(len(batch)):
            outputs = logits(study.model, batch[index : index + 1])[0]
            rows = outputs.reshape(-1, outputs.shape[-1])
            samples.append(
                [[_quadratic(rows, layer, fmt, metric) for fmt in study.formats] for layer in study.layers]
            )
    return np.array(samples)


def _quadratic(rows: Tensor, layer: Any, fmt: Any, metric: str) -> float:
    change, total = change_of(layer, fmt).flatten(), 0.0
    for row in rows:
        jacobian = torch.stack(
            [torch.autograd.grad(value, layer.weight, retain_graph=True)[0].flatten() for value in row]
        )  # (C, n)
        p = row.detach().softmax(0)
        middle = (
            torch.eye(len(p)).double() if metric == "squared_error" else torch.diag(p) - torch.outer(p, p)
        )
        moved = jacobian @ change
        total += 0.5 * float(moved @ middle @ moved) / len(rows)
    return total


@every_model
@every_metric
def test_entries_are_those_of_dense_jacobians(name: str, metric: str) -> None:
    study = study_of(name)
    samples = dense(study, metric)
    made = estimate(study, metric=metric)
    np.testing.assert_allclose(made.values, samples.mean(axis=0), rtol=1e-9, atol=1e-18)
    errors = samples.std(axis=0, ddof=1) / len(samples) ** 0.5
    np.testing.assert_allclose(made.stderr, errors, rtol=1e-8, atol=1e-18)
    assert (samples[..., 0].sum(axis=0) > 0).all()


@every_metric
def test_entries_are_those_of_finite_differences(metric: str) -> None:
    study = study_of("blocks", formats=["int2"])
    made = np.array(estimate(study, metric=metric).values)[:, 0]
    step = 1e-6
    with torch.no_grad():
        for layer, value in zip(study.layers, made, strict=True):
            original, moved = layer.weight.clone(), []
            change = change_of(layer, study.formats[0])
            for sign in (step, -step):
                layer.weight.copy_(original + sign * change)
                moved.append(torch.cat([logits(study.model, batch) for batch in study.batches]))
            layer.weight.copy_(original)
            slopes = (moved[0] - moved[1]) / (2 * step)
            outputs = torch.cat([logits(study.model, batch) for batch in study.batches])
            assert value == pytest.approx(float(METRICS[metric].quadratic(outputs, slopes).mean()), rel=1e-7)


def test_small_divergences_are_the_measured_ones() -> None:
    study = study_of("blocks", formats=["int8", "int7"])
    np.testing.assert_allclose(estimate(study).values, kl(study, logits=logits).values, rtol=0.05)


@every_model
def test_formats_one_at_a_time_give_the_same(name: str) -> None:
    study = study_of(name)
    np.testing.assert_allclose(
        estimate(study, together=False).values, estimate(study).values, rtol=1e-10, atol=1e-20
    )


def test_the_model_is_as_it_was_afterwards_and_when_the_outputs_raise() -> None:
    study = study_of("blocks")
    before = state(study.model)
    estimate(study)
    assert state(study.model) == before
    calls = iter(range(4))

    def breaks(model: nn.Module, batch: Tensor) -> Tensor:
        made = logits(model, batch)
        if next(calls, None) is None:
            raise RuntimeError("broke")
        return made

    with pytest.raises(RuntimeError, match="broke"):
        gauss_newton(study, outputs=breaks)
    assert state(study.model) == before


def test_progress_is_told_after_every_layer() -> None:
    told: list[tuple[str, int, int]] = []
    estimate(study_of("tied", progress=lambda *step: told.append(step)))
    assert told == [("gauss_newton softmax_kl", 1, 1)]


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"metric": "kl"}, "/metric: unknown metric 'kl'"),
        (
            {"outputs": lambda model, batch: model(batch).sum(1)},
            r"/outputs: expected outputs of shape \(B, …, C\)",
        ),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        estimate(study_of("blocks"), **options)


def test_outputs_that_are_not_finite_are_refused_with_layer_and_format() -> None:
    study = study_of("blocks", formats=["int2"])
    detail = r"/batches: layer 'stem' in format 'int2' moves the outputs by NaN or infinity"
    with pytest.raises(InvalidInputError, match=detail):
        gauss_newton(study, outputs=lambda model, batch: model(batch) * torch.inf, metric="squared_error")
