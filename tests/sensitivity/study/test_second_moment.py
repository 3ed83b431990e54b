"""Moments against the outputs that the change of a weight makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sensitivity.study.second_moment import second_moment, squared_output_error


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(module: nn.Module, change: Tensor, inputs: Tensor) -> float:
    """‖(W + ΔW) x - W x‖² with the module itself."""
    with torch.no_grad():
        before = module(inputs)
        after = torch.func.functional_call(module, {"weight": module.weight + change}, (inputs,))
    return float((after - before).square().sum())


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "rows": (lambda: nn.Linear(5, 3), (7, 5)),
    "sequences": (lambda: nn.Linear(5, 3, bias=False), (2, 7, 5)),
    "four axes": (lambda: nn.Linear(5, 3), (2, 3, 7, 5)),
}
for _kind, _size in ((nn.Conv1d, (3, 4, 9)), (nn.Conv2d, (3, 4, 6, 7))):
    _options: list[dict[str, Any]] = [
        {},
        {"stride": 2},
        {"padding": 2},
        {"padding": "same"},
        {"padding": "valid"},
        {"dilation": 2},
        {"groups": 2},
        {"groups": 4, "stride": 2, "padding": 1},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": "same", "padding_mode": "reflect"},
    ]
    for _chosen in _options:
        CASES[f"{_kind.__name__} {_chosen}"] = (
            lambda kind=_kind, chosen=_chosen: kind(4, 8, 3, **chosen),  # type: ignore[misc]
            _size,
        )


@pytest.mark.parametrize("case", CASES)
def test_the_error_is_that_of_the_outputs(case: str) -> None:
    make, shape = CASES[case]
    torch.manual_seed(0)
    module = make().double()
    change = numbers(*module.weight.shape, seed=1)
    inputs = [numbers(*shape, seed=seed) for seed in (2, 3)]
    moments = [second_moment(module, item) for item in inputs]
    expected = [by_definition(module, change, item) for item in inputs]
    assert squared_output_error(change, moments[0]) == pytest.approx(expected[0], rel=1e-10)
    assert squared_output_error(change, moments[0] + moments[1]) == pytest.approx(sum(expected), rel=1e-10)


def test_an_embedding_counts_its_tokens() -> None:
    module = nn.Embedding(9, 4).double()
    tokens, change = torch.tensor([[1, 1, 2], [8, 0, 1]]), numbers(9, 4)
    assert second_moment(module, tokens).tolist() == [1, 3, 1, 0, 0, 0, 0, 0, 1]
    made = squared_output_error(change, second_moment(module, tokens))
    assert made == pytest.approx(by_definition(module, change, tokens), rel=1e-10)


def test_a_sample_without_a_batch_axis() -> None:
    module = nn.Conv2d(2, 3, 2).double()
    change, inputs = numbers(3, 2, 2, 2), numbers(2, 5, 5, seed=1)
    made = squared_output_error(change, second_moment(module, inputs[None]))
    assert made == pytest.approx(by_definition(module, change, inputs), rel=1e-10)
