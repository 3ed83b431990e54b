"""Output errors by the definition, sample by sample."""

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
from sensitivity.estimators import output_mse
from tests.sensitivity.studies import make_study, squares, state


def _inputs(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_samples(study: Study) -> np.ndarray:
    """(N, L, F): each sample on its own, each layer with ΔW in the place of its weight."""
    samples = []
    for batch in study.batches:
        for index in range(len(batch)):
            samples.append([_errors(study, layer, batch[index : index + 1]) for layer in study.layers])
    return np.array(samples)


def _errors(study: Study, layer: Any, sample: Tensor) -> list[float]:
    seen: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, given, _: seen.append((module, given[0])))
        for module in layer.modules
    ]
    with torch.no_grad():
        study.model(sample)
    for hook in hooks:
        hook.remove()
    errors = []
    for fmt in study.formats:
        plain = layer.weight.detach().numpy()
        change = torch.from_numpy(round_trip(plain.astype(np.float32), fmt) - plain)
        total = 0.0
        for module, given in seen:
            zero = (
                {"bias": torch.zeros_like(module.bias)} if getattr(module, "bias", None) is not None else {}
            )
            with torch.no_grad():
                moved = torch.func.functional_call(module, {"weight": change} | zero, (given,))
            total += float(moved.square().sum())
        errors.append(total)
    return errors


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().double()


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


STUDIES: dict[str, Callable[[], Study]] = {
    "rows": lambda: make_study(
        seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))),
        [_inputs(6, 5), _inputs(6, 5, seed=2)],
        squares,
    ),
    "pictures": lambda: make_study(
        seeded(
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten(2), nn.Conv1d(4, 3, 3, 2)
            )
        ),
        [_inputs(3, 2, 5, 5), _inputs(3, 2, 5, 5, seed=2)],
        squares,
    ),
    "tied tokens": lambda: make_study(
        seeded(Tied), [torch.tensor([[1, 1, 2], [8, 0, 3]]), torch.tensor([[5, 5, 5], [1, 2, 3]])], squares
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_errors_are_those_of_single_samples(name: str) -> None:
    study = STUDIES[name]()
    samples, made = slow_samples(study), output_mse(study)
    np.testing.assert_allclose(made.values, samples.mean(axis=0), rtol=1e-10)
    batches = samples.reshape(2, -1, *samples.shape[1:]).mean(axis=1)
    np.testing.assert_allclose(made.stderr, batches.std(axis=0, ddof=1) / np.sqrt(2), rtol=1e-9, atol=1e-15)
    assert (samples[..., 0].sum(axis=0) > 0).all()


def test_batches_of_different_size_count_by_their_samples() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 4)))
    study = make_study(model, [_inputs(6, 5), _inputs(2, 5, seed=2)], squares)
    np.testing.assert_allclose(output_mse(study).values, slow_samples(study).mean(axis=0), rtol=1e-10)


def test_a_single_batch_has_no_standard_error() -> None:
    assert (
        output_mse(
            make_study(seeded(lambda: nn.Sequential(nn.Linear(5, 4))), [_inputs(6, 5)], squares)
        ).stderr
        is None
    )


def test_a_layer_that_takes_no_part_is_refused() -> None:
    model = seeded(lambda: nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)]))
    study = make_study(model, [_inputs(4, 5)], lambda model, batch: squares(model[0], batch))
    with pytest.raises(InvalidInputError, match="/layers/1: takes no part in the loss; exclude it"):
        output_mse(study)


def test_inputs_that_are_not_finite_are_refused_by_layer() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 3)))
    study = make_study(model, [torch.full((2, 5), torch.inf, dtype=torch.float64)], squares)
    with pytest.raises(InvalidInputError, match="/layers/0: its inputs are NaN or infinite on a batch"):
        output_mse(study)


def test_the_model_is_as_it_was_also_when_the_loss_raises() -> None:
    study = STUDIES["pictures"]()
    before = state(study.model)
    output_mse(study)
    assert state(study.model) == before

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        model(batch)
        raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        output_mse(make_study(study.model, study.batches, loss))
    assert state(study.model) == before


def test_progress_is_told_after_every_batch() -> None:
    told: list[tuple[str, int, int]] = []
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 4)))
    output_mse(make_study(model, [_inputs(6, 5)] * 2, squares, progress=lambda *step: told.append(step)))
    assert told == [("output_mse", 1, 2), ("output_mse", 2, 2)]
