"""Fisher tables against one backward pass per sample, and the model afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from sensitivity import Study, fisher
from tests.sensitivity.estimators.fisher_cases import MIXED, centred, drawn, linear, seeded, weighted
from tests.sensitivity.studies import make_study, squares, state


def slow_samples(study: Study, rows: int = 1) -> np.ndarray:
    """(N, L, F): one forward and one backward pass for each sample on its own."""
    samples = []
    for batch in study.batches:
        for start in range(0, len(batch), rows):
            (loss,) = study.loss_fn(study.model, batch[start : start + rows])
            gradients = torch.autograd.grad(loss, [layer.weight for layer in study.layers])
            samples.append(
                [
                    [weighted(gradient, layer.weight, fmt) for fmt in study.formats]
                    for gradient, layer in zip(gradients, study.layers, strict=True)
                ]
            )
    return np.array(samples)


def check(study: Study, rows: int = 1) -> None:
    samples = slow_samples(study, rows)
    made = fisher(study)
    np.testing.assert_allclose(made.values, samples.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(made.stderr, samples.std(axis=0, ddof=1) / np.sqrt(len(samples)), rtol=1e-9)
    assert (samples[..., 0] > 0).all()


def test_linear_layers_on_rows_and_on_sequences() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False))

    check(make_study(seeded(make), [drawn(6, 5), drawn(3, 5, seed=2)], squares))
    check(make_study(seeded(make), [drawn(4, 7, 5)], squares))
    check(make_study(seeded(make), [drawn(4, 2, 3, 5)], squares))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"padding": 1},
        {"dilation": 2},
        {"groups": 2},
        {"stride": 2, "padding": 1, "groups": 4, "bias": False},
        {"padding": 1, "padding_mode": "circular"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions(kind: type[nn.Conv1d | nn.Conv2d], options: dict[str, Any]) -> None:
    model = seeded(lambda: nn.Sequential(kind(4, 4, 3, **options), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)))
    size = (4, 9) if kind is nn.Conv1d else (4, 6, 7)
    inputs = drawn(5, *size)
    model(inputs)
    check(make_study(model, [inputs], squares))


def test_embeddings_with_repeated_tokens() -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(9, 4), nn.Tanh(), nn.Linear(4, 3)))
    check(
        make_study(
            model, [torch.tensor([[1, 1, 2], [2, 8, 0], [3, 3, 3]]), torch.tensor([[7, 7, 1]])], squares
        )
    )


def test_an_embedding_of_one_token_for_each_sample() -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)))
    check(make_study(model, [torch.tensor([1, 5, 1, 8])], squares))


class Twice(nn.Module):
    """One layer called twice, on its own output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.layer(torch.tanh(self.layer(inputs)))
        return result


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Linear(4, 4), (5, 4)),
        (lambda: nn.Linear(4, 4), (5, 3, 4)),
        (lambda: nn.Conv1d(3, 3, 3, padding=1), (5, 3, 6)),
        (lambda: nn.Conv2d(3, 3, 3), (5, 3, 7, 7)),
    ],
    ids=["rows", "sequences", "Conv1d", "Conv2d"],
)
def test_a_layer_that_is_called_twice_adds_its_gradients_before_squaring(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    check(make_study(seeded(lambda: Twice(make())), [drawn(*shape)], squares))


def test_an_embedding_that_is_called_twice() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 4)

        def forward(self, tokens: Tensor) -> Tensor:
            result: Tensor = self.embed(tokens) * torch.tanh(self.embed(8 - tokens))
            return result

    check(make_study(seeded(Both), [torch.tensor([[1, 4, 7], [4, 4, 4], [0, 2, 8]])], squares))


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_tied_weights_add_the_gradients_of_all_their_uses(kind: str) -> None:
    def make() -> nn.Module:
        first, second = (
            (nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
            if kind == "linear"
            else (nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 1))
        )
        second.weight = first.weight
        return nn.Sequential(first, nn.Tanh(), second)

    study = make_study(seeded(make), [drawn(5, 4, 4)], squares)
    assert len(study.layers) == 1
    check(study)


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


def test_an_embedding_that_is_tied_to_the_output_projection() -> None:
    check(make_study(seeded(Tied), [torch.tensor([[1, 1, 2], [2, 8, 0], [3, 3, 3]])], squares))


def test_an_activation_in_place_after_a_layer() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))

    check(make_study(seeded(make), [drawn(6, 5)], squares))


def contrast(model: nn.Module, batch: Tensor) -> Tensor:
    """One loss for each two consecutive rows."""
    outputs = model(batch)
    difference = outputs[0::2] - outputs[1::2]
    return difference.square().sum(1) + outputs[0::2].tanh().sum(1)


def test_samples_of_several_consecutive_rows() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    check(make_study(model, [drawn(8, 5), drawn(6, 5, seed=2)], contrast), rows=2)


def test_samples_of_several_sequences_of_tokens() -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(9, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)))
    tokens = torch.randint(0, 9, (8, 3), generator=torch.Generator().manual_seed(0))
    check(make_study(model, [tokens], contrast), rows=2)


def test_a_single_sample_has_no_standard_error() -> None:
    study = make_study(seeded(lambda: nn.Sequential(nn.Linear(5, 3))), [drawn(1, 5)], squares)
    made = fisher(study)
    assert made.stderr is None
    np.testing.assert_allclose(made.values, slow_samples(study)[0], rtol=1e-9)


def test_one_weight_by_hand() -> None:
    # w = 5 becomes 4 in mxfp4 (half-way between 4 and 6, and 4 is even): an error of 1.
    # The loss (w x)² has the gradient 2 w x² = 10, 40 for x = 1, 2: squares 100 and 1600, mean 850, error 750.
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    nn.init.constant_(model[0].weight, 5)
    made = fisher(make_study(model, [torch.tensor([[1.0], [2.0]])], squares, ["mxfp4"]))
    assert made.values == ((850.0,),)
    assert made.stderr is not None
    assert made.stderr[0][0] == pytest.approx(750, rel=1e-12)


def test_a_layer_that_is_run_and_thrown_away_costs_nothing() -> None:
    model = seeded(lambda: nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)]))

    def loss(model: Any, batch: Tensor) -> Tensor:
        model[1](batch)
        return squares(model[0], batch)

    made = fisher(make_study(model, [drawn(4, 5)], loss, ["int2"]))
    assert made.values[0][0] > 0
    assert made.values[1] == (0.0,)


def everything() -> nn.Module:
    model = seeded(lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Linear(16, 4), nn.Tanh()))
    model[2].weight.requires_grad_(False)
    return model


def test_the_model_is_as_it_was_afterwards() -> None:
    study = make_study(everything(), [drawn(3, 4, 6)], squares)
    before = state(study.model)
    fisher(study)
    assert state(study.model) == before


def test_the_model_is_as_it_was_when_the_loss_raises() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        model(batch)
        raise RuntimeError("broke")

    study = make_study(everything(), [drawn(3, 4, 6)], loss)
    before = state(study.model)
    with pytest.raises(RuntimeError, match="broke"):
        fisher(study)
    assert state(study.model) == before


def test_the_model_is_as_it_was_when_the_losses_are_refused() -> None:
    study = make_study(everything(), [drawn(3, 4, 6)], centred)
    before = state(study.model)
    with pytest.raises(InvalidInputError, match=MIXED):
        fisher(study)
    assert state(study.model) == before


def test_gradients_that_are_turned_off_around_do_not_matter() -> None:
    study = make_study(linear(), [drawn(4, 5)], squares)
    with torch.no_grad():
        made = fisher(study)
    assert made == fisher(study)


def test_progress_is_told_after_every_batch() -> None:
    told: list[tuple[str, int, int]] = []
    batches = [drawn(4, 5), drawn(2, 5)]
    fisher(make_study(linear(), batches, squares, progress=lambda *step: told.append(step)))
    assert told == [("fisher", 1, 2), ("fisher", 2, 2)]


def test_the_table_says_what_it_is() -> None:
    made = fisher(make_study(linear(), [drawn(4, 5)], squares))
    assert made.better == "lower"
    assert "averaged over samples" in made.meaning
    assert np.array(made.values).shape == (1, 4)
