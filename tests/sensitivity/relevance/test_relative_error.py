"""Relative errors against sums over single numbers, for every way in which a weight is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from quantize import round_trip
from sensitivity import Study
from sensitivity.relevance.relative_error import output_errors, weight_errors
from tests.sensitivity.estimators.test_lim import relative_errors
from tests.sensitivity.studies import Blocks, make_study, squares, state


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def seeded(make: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return make().double().eval()


def _inputs(study: Study, sample: Tensor) -> dict[int, list[Tensor]]:
    inputs: dict[int, list[Tensor]] = {}

    def keep(module: nn.Module, args: tuple[Tensor], _: Tensor) -> None:
        inputs.setdefault(id(module), []).append(args[0].clone())

    handles = [module.register_forward_hook(keep) for layer in study.layers for module in layer.modules]
    study.model(sample)
    for handle in handles:
        handle.remove()
    return inputs


def slow_samples(study: Study) -> np.ndarray:
    """(N, L, F): every sample by itself, with the module called twice and its bias taken off."""
    samples = []
    for sample in (item[None] for batch in study.batches for item in batch):
        inputs = _inputs(study, sample)
        rows = np.zeros((len(study.layers), len(study.formats)))
        for row, layer in enumerate(study.layers):
            original = layer.weight.detach().clone()
            for column, fmt in enumerate(study.formats):
                change = torch.from_numpy(round_trip(original.numpy().astype(np.float32), fmt)) - original
                sums = [0.0, 0.0]
                for module in layer.modules:
                    for given in inputs.get(id(module), []):
                        for index, weight in enumerate((change, original)):
                            layer.weight.data = weight
                            outputs = module(given)
                            layer.weight.data = torch.zeros_like(weight)
                            sums[index] += float((outputs - module(given)).detach().square().sum())
                layer.weight.data = original
                rows[row, column] = sums[0] / sums[1]
        samples.append(rows)
    return np.array(samples)


class Tied(nn.Module):
    """Tokens in, scores of tokens out, with one matrix for both."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 9)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.embed(tokens)))
        return result


class Named(nn.Linear):
    """Gives its weight and its bias by name."""

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(inputs, bias=self.bias, weight=self.weight)


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (
            lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3, bias=False)),
            random(3, 5),
        ),
        (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh()), random(3, 2, 5)),
        (
            lambda: nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.ReLU()),
            random(3, 2, 6, 7),
        ),
        (lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular")), random(3, 2, 8)),
        (lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), torch.tensor([[1, 1, 8], [0, 3, 2]])),
        (Tied, torch.tensor([[1, 1, 8], [0, 3, 2]])),
        (lambda: Blocks(order=(0, 1, 2, 1, 0)), random(3, 4)),
        (lambda: nn.Sequential(Named(5, 4)), random(3, 5)),
    ],
    ids=["linear", "sequences", "grouped", "circular", "embedding", "tied", "repeated", "named"],
)
def test_output_errors_against_modules_called_one_by_one(
    make: Callable[[], nn.Module], batch: Tensor
) -> None:
    study = make_study(seeded(make), [batch, batch[:1]], squares)
    before = state(study.model)
    found = output_errors(study, squares)
    assert state(study.model) == before
    np.testing.assert_allclose(found, slow_samples(study), rtol=1e-8)
    assert (found[..., 0] > 0).all()


def test_the_projection_inside_fused_attention_is_seen() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fused = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.fused(inputs, inputs, inputs)[0]
            return result

    study = make_study(seeded(Attention), [random(3, 5, 6)], squares, ["int2"])
    attention = study.model.fused
    values = [
        study.batches[0] @ w.T + b
        for w, b in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    ]
    heads = [value.unflatten(2, (2, 3)).transpose(1, 2) for value in values]
    mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    weight = attention.out_proj.weight.detach()
    change = torch.from_numpy(round_trip(weight.numpy().astype(np.float32), study.formats[0])) - weight
    expected = (mixed @ change.T).square().sum((1, 2)) / (mixed @ weight.T).square().sum((1, 2))
    np.testing.assert_allclose(output_errors(study, squares)[:, 0, 0], expected.detach(), rtol=1e-8)


def test_weight_errors_by_a_sum_over_weights_and_without_data() -> None:
    study = make_study(Blocks(), [], squares)
    np.testing.assert_allclose(weight_errors(study), relative_errors(study), rtol=1e-6)


def test_where_there_is_nothing_to_change_nothing_is_changed() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    nn.init.zeros_(model[0].weight)
    study = make_study(model, [random(2, 4)], squares, ["int2"])
    assert weight_errors(study)[0].tolist() == [0]
    assert output_errors(study, squares)[:, 0, 0].tolist() == [0, 0]


def test_losses_and_layers_that_cannot_be_used_are_refused() -> None:
    model = seeded(lambda: nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)]))

    def first(model: Any, batch: Tensor) -> Tensor:
        return squares(model[0], batch)

    with pytest.raises(InvalidInputError, match="/layers/1: takes no part in the loss; exclude it"):
        output_errors(make_study(model, [random(2, 4)], first), first)
    study = make_study(Blocks().double(), [random(4, 4)], squares)
    with pytest.raises(InvalidInputError, match="/layers/stem: sees 4 rows for 3 losses"):
        output_errors(study, lambda *pair: squares(*pair)[:3])
    with pytest.raises(InvalidInputError, match="/loss_fn: expected one number per sample"):
        output_errors(study, lambda *pair: squares(*pair).sum())
    with pytest.raises(InvalidInputError, match="/batches/0: holds no samples"):
        output_errors(make_study(Blocks().double(), [random(4, 4)[:0]], squares), squares)
