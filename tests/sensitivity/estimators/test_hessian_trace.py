"""Traces against dense Hessians in double precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from allocator import InvalidInputError
from quantize import round_trip
from sensitivity import Study, hessian_trace
from sensitivity.tasks import serial
from tests.sensitivity.studies import make_study, squares, state


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 2, 2),
        nn.Tanh(),
        nn.Flatten(2),
        nn.Conv1d(2, 3, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(9, 2),
    ).double()


def embedding() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def _inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


MODELS: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "perceptron": (perceptron, [_inputs(5, 3)]),
    "convolutional": (convolutional, [_inputs(4, 2, 3, 3)]),
    "embedding": (embedding, [torch.tensor([[0, 1], [2, 2], [3, 0]])]),
}
every_model = pytest.mark.parametrize("name", MODELS)


def study_of(name: str, **options: Any) -> Study:
    make, batches = MODELS[name]
    return make_study(make(), batches, squares, **options)


def dense(study: Study) -> Tensor:
    """The whole Hessian of the mean loss, over the weights of all layers one after the other."""
    weights = [layer.weight.detach() for layer in study.layers]

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([weight.numel() for weight in weights])
        chosen = {
            f"{layer.name}.weight": part.reshape(weight.shape)
            for layer, part, weight in zip(study.layers, parts, weights, strict=True)
        }

        def model(batch: Tensor) -> Tensor:
            outputs: Tensor = torch.func.functional_call(study.model, chosen, (batch,))
            return outputs

        return study.loss_fn(model, study.batches[0]).mean()

    hessian: Tensor = torch.autograd.functional.hessian(
        loss, torch.cat([weight.flatten() for weight in weights])
    )
    return hessian


def exact(study: Study) -> np.ndarray:
    """(L, F) by the formula, from the dense Hessian."""
    traces = [block.diagonal().sum() for block in _diagonal_blocks(study)]
    return np.array(
        [
            [
                float(trace) / layer.weight.numel() * _squared_error(layer.weight, target)
                for target in study.formats
            ]
            for trace, layer in zip(traces, study.layers, strict=True)
        ]
    )


def _diagonal_blocks(study: Study) -> list[Tensor]:
    hessian, blocks, start = dense(study), [], 0
    for layer in study.layers:
        end = start + layer.weight.numel()
        blocks.append(hessian[start:end, start:end])
        start = end
    return blocks


def _squared_error(weight: Tensor, target: Any) -> float:
    plain = weight.detach().numpy()
    return float(np.square(round_trip(plain.astype(np.float32), target) - plain).sum())


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
    for layer, block, error in zip(study.layers, _diagonal_blocks(study), errors, strict=True):
        count = len(block)
        rows = hessian[start : start + count]
        others = rows.square().sum() - block.square().sum()
        variance = 2 * (block.square().sum() - block.diagonal().square().sum()) + others
        scale = _squared_error(layer.weight, study.formats[0]) / count
        # The spread of a variance over 400 samples is some 10 %, that of its root half of that.
        assert error == pytest.approx(float((variance / probes).sqrt()) * scale, rel=0.2)
        start += count


@every_model
def test_separate_products_have_the_noise_of_their_own_block_only(name: str) -> None:
    study = study_of(name, formats=["int2"])
    made = hessian_trace(study, probes=400, separate=True)
    values, errors = np.array(made.values)[:, 0], np.array(made.stderr)[:, 0]
    assert (np.abs(values - exact(study)[:, 0]) <= 4 * errors).all()
    for layer, block, error in zip(study.layers, _diagonal_blocks(study), errors, strict=True):
        variance = 2 * (block.square().sum() - block.diagonal().square().sum()) / 400
        scale = _squared_error(layer.weight, study.formats[0]) / len(block)
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


def diagonal(model: nn.Module, batch: Tensor) -> Tensor:
    """Losses b · |W|² of each b in the batch: the Hessian of the mean is 2 · mean(b) · I, so any probe is exact."""
    return batch * model[0].weight.square().sum()  # type: ignore[index]


def one_layer() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3)).double()


def test_the_mean_trace_multiplies_the_summed_squares() -> None:
    # Tr(H) / n = 2 · mean(b) = 4, whatever n is; the squares are not divided by n.
    study = make_study(one_layer(), [torch.tensor([1.0, 3.0])], diagonal)
    values = hessian_trace(study, probes=1).values
    expected = [4 * _squared_error(study.layers[0].weight, target) for target in study.formats]
    np.testing.assert_allclose(values, [expected], rtol=1e-12)


def test_negative_traces_are_kept() -> None:
    study = make_study(one_layer(), [torch.tensor([-1.0, -3.0])], diagonal, ["int2"])
    ((value,),) = hessian_trace(study, probes=1).values
    assert value == pytest.approx(-4 * _squared_error(study.layers[0].weight, study.formats[0]), rel=1e-12)
    assert value < 0


def test_probes_take_turns_over_the_batches_and_the_error_covers_both() -> None:
    # 2 b = 2, 6, 2, 6: mean 4, standard error √(4 · 4 / 3 / 4)
    study = make_study(one_layer(), [torch.tensor([1.0]), torch.tensor([3.0])], diagonal, ["int2"])
    made = hessian_trace(study, probes=4)
    squared = _squared_error(study.layers[0].weight, study.formats[0])
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
    study = make_study(one_layer(), [_inputs(4, 5)], lambda model, batch: model(batch).sum(1), ["int2"])
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
    model, batches = perceptron(), [_inputs(5, 3)]
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
    batches = [_inputs(3, 5, 4).float()]
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

    study = make_study(perceptron(), [_inputs(2, 3)], loss)
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


# The Gauss-Newton matrix


def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made if made.dim() > 1 else made[:, None]


gauss_newton = partial(hessian_trace, curvature="gauss_newton", outputs=outputs)


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
        trace / layer.weight.numel() * _squared_error(layer.weight, study.formats[0])
        for trace, layer in zip(dense_gauss_newton(study, metric), study.layers, strict=True)
    ]
    assert (np.abs(values - truth) <= 4 * errors).all()
    assert (errors <= 0.1 * np.abs(truth)).all()
    assert f"Gauss-Newton ({metric})" in made.meaning


@pytest.mark.parametrize("metric", ["softmax_kl", "squared_error"])
def test_single_gauss_newton_probes_of_many_seeds_average_to_the_dense_trace(metric: str) -> None:
    model, batches = perceptron(), [_inputs(5, 3)]
    studies = [make_study(model, batches, squares, ["int2"], seed=seed) for seed in range(300)]
    draws = np.array([gauss_newton(study, probes=1, metric=metric).values for study in studies])[..., 0]
    truth = [
        trace / layer.weight.numel() * _squared_error(layer.weight, studies[0].formats[0])
        for trace, layer in zip(dense_gauss_newton(studies[0], metric), studies[0].layers, strict=True)
    ]
    standard = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - truth) <= 4 * standard).all()
    assert (draws >= 0).all()


def test_the_hessian_of_a_linear_model_under_cross_entropy_is_its_gauss_newton_matrix() -> None:
    labels = torch.tensor([0, 2, 1, 1])

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return functional.cross_entropy(model(batch), labels, reduction="none")

    study = make_study(one_layer(), [_inputs(4, 5)], loss, ["int2"])
    exact, estimate = hessian_trace(study, probes=600), gauss_newton(study, probes=600)
    assert estimate.values[0][0] == pytest.approx(exact.values[0][0], rel=0.1)


def test_a_batch_counts_by_its_samples() -> None:
    # 2 b = 2 in a batch of three samples and 10 in a batch of one: the mean loss has 2 · (1 + 1 + 1 + 5) / 4 = 4.
    study = make_study(one_layer(), [torch.ones(3), torch.tensor([5.0])], diagonal, ["int2"])
    squared = _squared_error(study.layers[0].weight, study.formats[0])
    assert hessian_trace(study, probes=2).values[0][0] == pytest.approx(4 * squared, rel=1e-12)


# Stopping


def test_probes_go_on_until_every_layer_is_known_well_enough() -> None:
    study = study_of("perceptron", formats=["int2"])
    made = hessian_trace(study, relative_error=0.05, max_probes=4096)
    values, errors = np.array(made.values), np.array(made.stderr)
    assert (errors <= 0.05 * np.abs(values)).all()
    assert "short of" not in made.meaning
    # Stopping is the only thing that differs from asking for that many probes.
    (count,) = [int(part.split()[0]) for part in made.meaning.split("; ") if part.endswith("probes")]
    assert 8 < count < 4096
    assert hessian_trace(study, probes=count) == made
    before = hessian_trace(study, probes=count - 8)
    assert (np.array(before.stderr) > 0.05 * np.abs(before.values)).any()


def test_a_negative_trace_can_be_known_well_enough() -> None:
    # With a mean in the denominator rather than its absolute value, any negative trace would end the loop at once.
    study = study_of("perceptron", formats=["int2"])
    flipped = replace(study, loss_fn=lambda model, batch: -squares(model, batch))
    up, down = (hessian_trace(item, relative_error=0.1, max_probes=4096) for item in (study, flipped))
    np.testing.assert_allclose(np.array(up.values), -np.array(down.values), rtol=1e-12)
    assert "negative traces, kept as they are: 2 of 2 (0, 2)" in down.meaning
    assert "negative" not in up.meaning


def test_layers_that_fall_short_at_the_last_probe_are_named() -> None:
    made = hessian_trace(study_of("perceptron"), relative_error=1e-6, max_probes=20)
    assert "20 probes" in made.meaning
    assert "short of the relative standard error: 2 of 2 (0, 2)" in made.meaning


def test_progress_goes_on_over_the_rounds() -> None:
    told: list[tuple[str, int, int]] = []
    study = study_of("perceptron", progress=lambda *step: told.append(step))
    hessian_trace(study, probes=3, relative_error=1e-6, max_probes=7)
    assert told == [("hessian_trace", done, 7) for done in range(1, 8)]


def test_the_order_in_which_an_engine_runs_the_probes_does_not_matter() -> None:
    def backwards(study: Study, stage: str, keys: Any, measure: Any) -> Any:
        return list(reversed(serial(study, stage, list(reversed(keys)), measure)))

    for curvature in (hessian_trace, gauss_newton):
        study = make_study(perceptron(), [_inputs(5, 3), _inputs(3, 3)], squares)
        assert curvature(study, probes=5) == curvature(replace(study, engine=backwards), probes=5)


# Refusals


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
