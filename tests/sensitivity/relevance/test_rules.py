"""Single rules on numbers that can be followed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sensitivity.relevance.propagation import propagating
from sensitivity.relevance.rules import ATTN_LRP, CHEFER, Rules


class Calling(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        return self.function(*inputs, **named)


def traced(function: Callable[..., Any], *inputs: list[float], rules: Rules = ATTN_LRP) -> list[list[float]]:
    """Relevance at the inputs when all of it starts at the outputs."""
    model = Calling(function)
    with propagating(model, (), rules) as trace:
        outputs = model(*(torch.tensor(item, dtype=torch.float64) for item in inputs))
        gradients = torch.autograd.grad(outputs.sum(), trace.sources, materialize_grads=True)
    return [(item * grad).tolist() for item, grad in zip(trace.sources, gradients, strict=True)]


def near(expected: list[float]) -> Any:
    return pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_sum_is_shared_in_proportion() -> None:
    assert traced(lambda a, b: a + b, [1.0, 3.0], [3.0, -1.0]) == [near([1, 3]), near([3, -1])]
    assert traced(lambda a, b: a - b, [3.0], [1.0]) == [near([3]), near([-1])]
    assert traced(lambda a: 5 - a, [2.0]) == [near([-2])]


def times_in_place(first: Tensor, second: Tensor) -> Tensor:
    first *= second
    return first


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a * b,
        times_in_place,
        lambda a, b: torch.einsum("i,i->i", a, b),
        lambda a, b: torch.einsum("i,i->i", [a, b]),
        lambda a, b: a[:, None, None] @ b[:, None, None],
        lambda a, b: torch.bmm(a[:, None, None], b[:, None, None]),
    ],
)
def test_factors_get_equal_parts(function: Callable[..., Tensor]) -> None:
    total = function(torch.tensor([2.0, 3.0]), torch.tensor([5.0, -1.0])).sum().item()
    first, second = traced(function, [2.0, 3.0], [5.0, -1.0])
    assert sum(first) == pytest.approx(total / 2, rel=1e-5)
    assert second == near(first)


def test_changes_in_place_share_like_the_others() -> None:
    def change(constant: Tensor, first: Tensor, second: Tensor) -> Tensor:
        constant = torch.full_like(constant, 2)
        constant *= first  # carries from here on
        constant += second
        constant /= second
        return constant

    # (2 · 3 + 4) / 4 = 2.5, of which 1.5 is due to the first
    assert traced(change, [0.0], [3.0], [4.0]) == [[0.0], near([1.5]), near([1.0])]


def test_a_factor_that_carries_no_relevance_gets_none() -> None:
    assert traced(lambda a: a * torch.tensor([4.0, 5.0]), [2.0, 3.0]) == [near([8, 15])]


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (functional.relu, 2),
        (lambda x: functional.relu(x, inplace=True), 2),
        (lambda x: functional.relu(input=x), 2),
        (torch.tanh, math.tanh(2)),
        (torch.sigmoid, 1 / (1 + math.exp(-2))),
        (functional.silu, 2 / (1 + math.exp(-2))),
        (lambda x: x**2, 4),
        (lambda x: x.square(), 4),
    ],
)
def test_activations_hand_relevance_through(function: Callable[[Tensor], Tensor], value: float) -> None:
    assert traced(function, [2.0]) == [near([value])]
    # At an input of 0 nothing can be handed through, and nothing blows up.
    assert traced(function, [0.0]) == [[0.0]]


def test_a_quotient_belongs_to_the_numerator_and_factors_of_normalisation_to_nobody() -> None:
    assert traced(lambda a, b: a / b, [6.0], [3.0]) == [near([2]), [0.0]]
    assert traced(lambda a: a / 3, [6.0]) == [near([2])]
    assert traced(lambda a, b: a * (1 / b), [6.0], [3.0]) == [near([2]), [0.0]]
    assert traced(lambda a, b: a * torch.rsqrt(b), [6.0], [4.0]) == [near([3]), [0.0]]
    assert traced(lambda a: a / a.norm(), [3.0, 4.0]) == [near([0.6, 0.8])]


def test_softmax_by_attn_lrp_and_by_chefer() -> None:
    # x = (0, ln 3) → s = (1/4, 3/4). AttnLRP: R_i = x_i (s_i − s_i Σ s) = 0 for equal starts in proportion to s.
    x = [0.0, math.log(3)]
    assert traced(lambda a: a.softmax(0), x) == [near([0, 0])]
    # Starting from the second output alone: R = x_2 (3/4 − 3/4 · 3/4).
    assert traced(lambda a: a.softmax(0)[1], x) == [near([0, math.log(3) * 3 / 16])]
    assert traced(lambda a: a.softmax(0), x, rules=CHEFER) == [near([0, 0.75])]


def test_epsilon_absorbs_small_contributions() -> None:
    # z = 1 and ε = 1: z / (z + ε) = 1/2 of the relevance goes on; for z = −3, 3/4.
    rules = Rules(ATTN_LRP.by_function, ATTN_LRP.rewrites, epsilon=1.0)
    assert traced(lambda a, b: a + b, [0.5, -1.0], [0.5, -2.0], rules=rules) == [
        near([0.25, -0.75]),
        near([0.25, -1.5]),
    ]
    # A sum that cancels hands on nothing.
    assert traced(lambda a, b: a + b, [2.0], [-2.0]) == [[0.0], [0.0]]


def test_moving_and_picking_values_needs_no_rule() -> None:
    picked = traced(lambda a, b: torch.cat([a, b]).flip(0)[1:].reshape(3, 1), [1.0, 2.0], [3.0, 4.0])
    assert picked == [[1.0, 2.0], [3.0, 0.0]]


def test_masks_are_no_source_wherever_they_stand() -> None:
    class Masked(nn.Module):
        def forward(self, states: Tensor, attention_mask: Tensor, **others: Tensor) -> Tensor:
            return states * attention_mask + others["padding_mask"]

    model, ones = Masked(), torch.ones(2)
    with propagating(model, (), ATTN_LRP) as trace:
        model(3 * ones, ones, padding_mask=-torch.inf * ones)
    assert [source.tolist() for source in trace.sources] == [[3, 3]]


def test_rules_hold_inside_the_model_only() -> None:
    model = Calling(lambda a: a)
    with propagating(model, (), ATTN_LRP) as trace:
        outputs = model(torch.tensor([3.0]))
        (outputs * outputs).backward(inputs=trace.sources)
    assert trace.sources[0].grad is not None
    assert trace.sources[0].grad.tolist() == [6.0]  # the plain gradient of a square, not half of it


def test_each_result_of_a_model_counts_for_itself() -> None:
    # The second result is made from the first; what the loss sees of each must not contain the other.
    def both(inputs: Tensor) -> dict[str, Tensor]:
        first = inputs * 2
        return {"first": first, "second": first * 3}

    model = Calling(both)
    with propagating(model, (), ATTN_LRP) as trace:
        results = model(torch.tensor([1.0]))
        first, second = torch.autograd.grad(results["first"] + results["second"], trace.results)
    assert (first.tolist(), second.tolist()) == ([1.0], [1.0])
