"""Measured plans against the whole model, changed and run again for each of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from allocator import InvalidInputError, solve
from benchmarks.all_plans import all_plans, best_within, sum_over_plans
from quantize import parse_format, round_trip
from sensitivity import discover
from tests.sensitivity.studies import Blocks, state

FORMATS = ("int2", "int4-g4", "fp16")


def squares(original: Tensor, changed: Tensor) -> Tensor:
    return (original - changed).square().flatten(1).sum(1)


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def naive(model: nn.Module, data: Tensor, formats: Sequence[str] = FORMATS) -> np.ndarray:
    """All plans, one forward pass of the whole model each."""
    weights = [layer.weight for layer in discover(model)]
    originals = [weight.detach().clone() for weight in weights]
    found = []
    with torch.no_grad():
        reference = model(data.clone())
        for plan in itertools.product(formats, repeat=len(weights)):
            for weight, original, name in zip(weights, originals, plan, strict=True):
                weight.copy_(torch.from_numpy(round_trip(original.numpy(), parse_format(name))))
            found.append(squares(reference, model(data.clone())).double().mean().item())
        for weight, original in zip(weights, originals, strict=True):
            weight.copy_(original)
    return np.array(found).reshape((len(formats),) * len(weights))


def measure(
    model: nn.Module, data: Tensor, formats: Sequence[str] = FORMATS, **options: object
) -> np.ndarray:
    return all_plans(model, data, [parse_format(name) for name in formats], squares, **options)  # type: ignore[arg-type]


def chain() -> nn.Sequential:
    """Two layers in a nested child, a child without layers before, between and after, in-place activations."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 8))
    return nn.Sequential(
        nn.LeakyReLU(0.5, inplace=True),
        nn.Conv2d(1, 3, 3),
        nn.LeakyReLU(0.5, inplace=True),
        nn.Flatten(),
        inner,
        nn.Linear(8, 4),
        nn.Softmax(1),
    ).eval()


def test_a_chain_gives_the_numbers_of_whole_passes_bit_for_bit() -> None:
    data = inputs(5, 1, 4, 4)
    made = measure(chain(), data)
    assert torch.equal(data, inputs(5, 1, 4, 4))
    assert made.shape == (3, 3, 3, 3)
    assert np.array_equal(made, naive(chain(), inputs(5, 1, 4, 4)))
    assert len(np.unique(made)) > 70


def test_any_other_model_is_computed_as_a_whole() -> None:
    model = Blocks().eval()
    assert np.array_equal(measure(model, inputs(5, 4), FORMATS[:2]), naive(model, inputs(5, 4), FORMATS[:2]))


def test_a_weight_that_two_children_share_has_one_axis() -> None:
    torch.manual_seed(0)
    first, second, third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    third.weight = first.weight
    model = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), third).eval()
    made = measure(model, inputs(5, 4))
    assert made.shape == (3, 3)
    assert np.array_equal(made, naive(model, inputs(5, 4)))


def test_a_child_that_runs_twice() -> None:
    torch.manual_seed(0)
    first, tanh = nn.Linear(4, 4), nn.Tanh()
    model = nn.Sequential(first, tanh, nn.Linear(4, 4), tanh, first).eval()
    assert np.array_equal(measure(model, inputs(5, 4)), naive(model, inputs(5, 4)))


def test_stages_are_computed_once_for_plans_that_begin_alike() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))).eval()
    calls: Counter[int] = Counter()
    for index, child in enumerate(model):
        child.register_forward_hook(lambda *_, index=index: calls.update([index]))
    measure(model, inputs(5, 4))
    assert calls == {0: 1 + 3, 1: 1 + 9, 2: 1 + 27}


def test_the_model_is_as_it_was_afterwards_also_when_the_distance_raises() -> None:
    model = chain()
    before = state(model)
    measure(model, inputs(5, 1, 4, 4))
    assert state(model) == before

    left = iter(range(40))

    def breaks(original: Tensor, changed: Tensor) -> Tensor:
        if next(left, None) is None:
            raise RuntimeError("broke")
        return squares(original, changed)

    with pytest.raises(RuntimeError, match="broke"):
        all_plans(model, inputs(5, 1, 4, 4), [parse_format(name) for name in FORMATS], breaks)
    assert state(model) == before


def test_progress_is_told_after_every_plan() -> None:
    told: list[tuple[str, int, int]] = []
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    measure(model, inputs(3, 4), progress=lambda *step: told.append(step))
    assert told == [("plans", done, 9) for done in range(1, 10)]


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/model: the model is in training mode.*model\.eval\(\)"):
        measure(chain().train(), inputs(5, 1, 4, 4))


tables = st.integers(1, 4).flatmap(
    lambda layers: st.integers(2, 4).flatmap(
        lambda formats: st.tuples(
            *(
                st.lists(
                    st.lists(st.integers(1, 200), min_size=formats, max_size=formats),
                    min_size=layers,
                    max_size=layers,
                )
                for _ in range(2)
            ),
            st.floats(0, 1),
        )
    )
)


@settings(max_examples=100, deadline=None)
@given(tables)
def test_the_optimum_is_the_exact_solvers_plan_where_costs_add_up(
    case: tuple[list[list[int]], list[list[int]], float],
) -> None:
    costs, spends, share = case
    measured, spent = (sum_over_plans(np.array(rows, dtype=float)) for rows in (costs, spends))
    limit = float(spent.min() + share * (spent.max() - spent.min()))
    profile = {
        "formats": {f"int{index + 1}": {"weight_bits": index + 1} for index in range(len(costs[0]))},
        "layers": [{"name": str(index)} for index in range(len(costs))],
        "costs": {"kl": {"values": costs}},
        "resources": {"bytes": {"values": spends}},
    }
    best = best_within(measured, spent, limit)
    assert spent[best] <= limit
    assert measured[best] == solve(profile, budgets={"bytes": limit}).objective


def test_sums_over_plans_are_those_of_a_loop() -> None:
    rows = np.random.default_rng(0).random((3, 4))
    made = sum_over_plans(rows)
    for plan in itertools.product(range(4), repeat=3):
        assert made[plan] == pytest.approx(
            sum(rows[layer, option] for layer, option in enumerate(plan)), rel=1e-15
        )


def test_a_budget_that_no_plan_meets_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/limit: no plan spends at most 1; the lightest spends 2"):
        best_within(np.ones((2, 2)), np.array([[2.0, 3.0], [3.0, 4.0]]), 1)
