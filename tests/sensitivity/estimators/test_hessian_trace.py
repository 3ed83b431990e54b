"""Hessian traces against dense Hessians, and what cannot be probed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from allocator import InvalidInputError
from sensitivity import hessian_trace
from tests.sensitivity.estimators.trace_cases import (
    MODELS,
    dense,
    diagonal,
    diagonal_blocks,
    drawn,
    every_model,
    exact,
    one_layer,
    outputs,
    perceptron,
    squared_error,
    study_of,
)
from tests.sensitivity.studies import make_study, squares, state


@every_model
def test_many_probes_come_within_a_few_standard_errors_of_the_exact_trace(name: str) -> None:
    study = study_of(name)
    made = hessian_trace(study, probes=400)
    values, errors = np.array(made.values), np.array(made.stderr)
    assert (np.abs(values - exact(study)) <= 4 * errors).all()
    # An estimate with a huge standard error would pass the line above whatever it is.
    assert (errors <= 0.1 * np.abs(exact(study)).max()).all()


@every_model
def test_the_standard_error_is_what_the_hessian_says_it_is(name: str) -> None:
    # For signs v: Var(v_l' (H v)_l) = 2 (|H_ll|² - |diag H_ll|²) + the sum of |H_lm|² over the other layers m.
    study = study_of(name, formats=["int2"])
    probes = 400
    errors = np.array(hessian_trace(study, probes=probes).stderr)[:, 0]
    hessian, start = dense(study), 0
    for layer, block, error in zip(study.layers, diagonal_blocks(study), errors, strict=True):
        count = len(block)
        rows = hessian[start : start + count]
        others = rows.square().sum() - block.square().sum()
        variance = 2 * (block.square().sum() - block.diagonal().square().sum()) + others
        scale = squared_error(layer.weight, study.formats[0]) / count
        # The spread of a variance over 400 samples is some 10 %, that of its root half of that.
        assert error == pytest.approx(float((variance / probes).sqrt()) * scale, rel=0.2)
        start += count


@every_model
def test_separate_products_have_the_noise_of_their_own_block_only(name: str) -> None:
    study = study_of(name, formats=["int2"])
    made = hessian_trace(study, probes=400, separate=True)
    values, errors = np.array(made.values)[:, 0], np.array(made.stderr)[:, 0]
    assert (np.abs(values - exact(study)[:, 0]) <= 4 * errors).all()
    for layer, block, error in zip(study.layers, diagonal_blocks(study), errors, strict=True):
        variance = 2 * (block.square().sum() - block.diagonal().square().sum()) / 400
        scale = squared_error(layer.weight, study.formats[0]) / len(block)
        assert error == pytest.approx(float(variance.sqrt()) * scale, rel=0.2)


@every_model
def test_single_probes_of_many_seeds_average_to_the_exact_trace(name: str) -> None:
    make, batches = MODELS[name]
    model = make()
    draws = np.array(
        [
            hessian_trace(make_study(model, batches, squares, ["int2"], seed=seed), probes=1).values
            for seed in range(300)
        ]
    )[..., 0]
    standard = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    truth = exact(make_study(model, batches, squares, ["int2"]))[:, 0]
    assert (np.abs(draws.mean(axis=0) - truth) <= 4 * standard).all()
    assert (standard <= 0.1 * np.abs(truth).max()).all()


def test_the_mean_trace_multiplies_the_summed_squares() -> None:
    # Tr(H) / n = 2 · mean(b) = 4, whatever n is; the squares are not divided by n.
    study = make_study(one_layer(), [torch.tensor([1.0, 3.0])], diagonal)
    values = hessian_trace(study, probes=1).values
    expected = [4 * squared_error(study.layers[0].weight, fmt) for fmt in study.formats]
    np.testing.assert_allclose(values, [expected], rtol=1e-12)


def test_negative_traces_are_kept() -> None:
    study = make_study(one_layer(), [torch.tensor([-1.0, -3.0])], diagonal, ["int2"])
    ((value,),) = hessian_trace(study, probes=1).values
    assert value == pytest.approx(-4 * squared_error(study.layers[0].weight, study.formats[0]), rel=1e-12)
    assert value < 0


def test_probes_take_turns_over_the_batches_and_the_error_covers_both() -> None:
    # 2 b = 2, 6, 2, 6: mean 4, standard error √(4 · 4 / 3 / 4)
    study = make_study(one_layer(), [torch.tensor([1.0]), torch.tensor([3.0])], diagonal, ["int2"])
    made = hessian_trace(study, probes=4)
    squared = squared_error(study.layers[0].weight, study.formats[0])
    assert made.values[0][0] == pytest.approx(4 * squared, rel=1e-12)
    assert made.stderr is not None
    assert made.stderr[0][0] == pytest.approx((4 / 3) ** 0.5 * squared, rel=1e-12)


def test_a_layer_without_influence_on_the_loss_has_no_trace() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3)).double()
    study = make_study(model, [torch.tensor([1.0])], diagonal, ["int2"])
    made = hessian_trace(study, probes=2)
    assert made.values[1] == (0.0,)
    assert made.values[0][0] > 0


def test_a_loss_that_is_linear_in_the_weights_has_no_trace() -> None:
    study = make_study(one_layer(), [drawn(4, 5)], lambda model, batch: model(batch).sum(1), ["int2"])
    assert hessian_trace(study, probes=2).values == ((0.0,),)


def test_a_single_probe_has_no_standard_error() -> None:
    assert hessian_trace(study_of("perceptron"), probes=1).stderr is None
    assert hessian_trace(study_of("perceptron"), probes=2).stderr is not None


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    tables = [hessian_trace(study_of("perceptron", seed=seed), probes=3) for seed in (0, 0, 1)]
    assert tables[0] == tables[1]
    assert tables[0].values != tables[2].values


def test_the_trace_of_a_layer_does_not_depend_on_which_others_are_profiled() -> None:
    # Each layer draws from a seed of its own, so leaving another one out changes only the cross terms.
    model, batches = perceptron(), [drawn(5, 3)]
    both = hessian_trace(make_study(model, batches, squares, ["int2"]), probes=200)
    alone = hessian_trace(make_study(model, batches, squares, ["int2"], exclude=["0"]), probes=200)
    assert both.stderr is not None
    assert alone.values[0][0] == pytest.approx(both.values[1][0], abs=6 * both.stderr[1][0])


class Attention(nn.Module):
    """One head of attention, fused or written out."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.fused = fused

    def forward(self, inputs: Tensor) -> Tensor:
        # The fused kernel of the CPU wants (batch, heads, tokens, width).
        query, key, value = (layer(inputs)[:, None] for layer in (self.query, self.key, self.value))
        if self.fused:
            return functional.scaled_dot_product_attention(query, key, value)
        return torch.softmax(query @ key.transpose(-1, -2) / 2, dim=-1) @ value


def test_fused_attention_has_the_traces_of_attention_written_out() -> None:
    batches = [drawn(3, 5, 4).float()]
    fused, plain = (
        hessian_trace(make_study(Attention(fused=kind), batches, squares), probes=4) for kind in (True, False)
    )
    np.testing.assert_allclose(fused.values, plain.values, rtol=1e-4)
    assert np.array(fused.values)[:2, 0].any()


@pytest.mark.parametrize("probes", [0, -1])
def test_fewer_than_one_probe_is_refused(probes: int) -> None:
    with pytest.raises(InvalidInputError, match=f"/probes: expected at least 1 probe, got {probes}"):
        hessian_trace(study_of("perceptron"), probes=probes)


def test_a_hessian_that_is_not_finite_is_refused_by_layer() -> None:
    # |w|^1.5 is finite at zero and its second derivative is not.
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    nn.init.zeros_(model[0].weight)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return squares(model, batch).pow(0.75)

    with pytest.raises(InvalidInputError, match="/batches: the Hessian of layer '0' is not finite"):
        hessian_trace(make_study(model, [torch.ones(2, 3)], loss))


def test_the_model_is_as_it_was_afterwards() -> None:
    study = study_of("convolutional")
    study.layers[1].weight.requires_grad_(False)
    before = state(study.model)
    hessian_trace(study, probes=2)
    assert state(study.model) == before


def test_the_model_is_as_it_was_when_the_loss_raises() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        model(batch)
        raise RuntimeError("broke")

    study = make_study(perceptron(), [drawn(2, 3)], loss)
    study.layers[0].weight.requires_grad_(False)
    before = state(study.model)
    with pytest.raises(RuntimeError, match="broke"):
        hessian_trace(study)
    assert state(study.model) == before


def test_progress_is_told_after_every_probe() -> None:
    told: list[tuple[str, int, int]] = []
    hessian_trace(study_of("perceptron", progress=lambda *step: told.append(step)), probes=3)
    assert told == [("hessian_trace", done, 3) for done in (1, 2, 3)]


def test_the_table_says_what_it_is() -> None:
    made = hessian_trace(study_of("perceptron"), probes=1)
    assert made.better == "lower"
    assert "mean Hessian trace" in made.meaning
    assert np.array(made.values).shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"relative_error": 0.0}, "/relative_error: expected a number above 0, got 0.0"),
        ({"relative_error": float("nan")}, "/relative_error: expected a number above 0, got nan"),
        (
            {"relative_error": 0.1, "probes": 1},
            "/probes: a standard error to stop at needs at least 2 probes",
        ),
        ({"relative_error": 0.1, "max_probes": 7}, "/max_probes: expected at least probes = 8, got 7"),
        ({"curvature": "fisher"}, "/curvature: unknown curvature 'fisher'"),
        (
            {"curvature": "gauss_newton", "outputs": outputs, "separate": True},
            "/separate: .* leave separate out",
        ),
        ({"curvature": "gauss_newton"}, "/outputs: curvature='gauss_newton' needs a function"),
        ({"outputs": outputs}, "/outputs: the Hessian is that of the loss; leave outputs out"),
        ({"curvature": "gauss_newton", "outputs": outputs, "metric": "kl"}, "/metric: unknown metric 'kl'"),
        (
            {"curvature": "gauss_newton", "outputs": lambda model, batch: model(batch).detach()},
            "/outputs: the outputs do not depend on any weight; were they detached",
        ),
        (
            {"curvature": "gauss_newton", "outputs": lambda model, batch: model(batch).sum(1)},
            r"/outputs: expected outputs of shape \(B, …, C\), got a torch.float64 tensor of shape \(5,\)",
        ),
        (
            {"curvature": "gauss_newton", "outputs": lambda *_: None},
            r"/outputs: expected outputs of shape \(B, …, C\), got NoneType",
        ),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        hessian_trace(study_of("perceptron"), **options)


@pytest.mark.parametrize(
    ("loss", "detail"),
    [
        (lambda model, batch: squares(model, batch).mean(), "/loss_fn: expected one loss per sample"),
        (lambda model, batch: squares(model, batch)[:0], "/batches: a batch gives no losses"),
        (
            lambda model, batch: squares(model, batch).detach(),
            "/loss_fn: the losses do not depend on any weight",
        ),
    ],
)
def test_losses_that_cannot_be_used_are_refused(loss: Any, detail: str) -> None:
    study = replace(study_of("perceptron"), loss_fn=loss)
    before = state(study.model)
    with pytest.raises(InvalidInputError, match=detail):
        hessian_trace(study)
    assert state(study.model) == before
