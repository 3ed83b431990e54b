"""Two-level plans against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from allocator import InvalidInputError
from quantize import parse_format
from sensitivity import discover, two_level_plan
from sensitivity.models.layers import LayerRef

HIGH, LOW = parse_format("int4"), parse_format("int2")


def layers_of(*widths: int) -> tuple[LayerRef, ...]:
    return discover(nn.Sequential(*(nn.Linear(64, width) for width in widths)))


def bits(layers: tuple[LayerRef, ...], plan: dict[str, str]) -> float:
    stored = sum(parse_format(plan[layer.name]).stored_bytes(layer.weight.shape) for layer in layers)
    return 8 * stored / sum(layer.weight.numel() for layer in layers)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 4)), min_size=1, max_size=6),
    st.floats(2.25, 5.0),
)
def test_the_plan_is_the_first_in_the_ranking_that_fits(made: list[tuple[int, int]], budget: float) -> None:
    layers = layers_of(*(width for width, _ in made))
    importance = np.array([float(rank) for _, rank in made])
    plan = two_level_plan(layers, importance, high=HIGH, low=LOW, effective_bits=budget)
    thresholds = [-1.0, *sorted({rank for _, rank in made})]
    plans = [
        {
            layer.name: (LOW if rank <= limit else HIGH).name
            for layer, (_, rank) in zip(layers, made, strict=True)
        }
        for limit in thresholds
    ]
    assert plan == next(item for item in plans if bits(layers, item) <= budget)


def test_bounds_of_the_budget() -> None:
    layers = layers_of(8, 8, 8)
    importance = np.array([0.1, 0.3, 0.2])
    formats = {"high": HIGH, "low": LOW}
    all_high, all_low = (64 * item + 16 for item in (4, 2))
    for effective, lowered in (
        (all_high, []),
        (all_high - 1, ["0"]),
        (all_low + 1, ["0", "2", "1"]),
        (all_low, "012"),
    ):
        plan = two_level_plan(layers, importance, effective_bits=effective / 64, **formats)
        assert sorted(name for name, chosen in plan.items() if chosen == "int2") == sorted(lowered)
    with pytest.raises(
        InvalidInputError, match=r"/effective_bits: expected at least 2\.25, what all layers take in"
    ):
        two_level_plan(layers, importance, effective_bits=2.24, **formats)
    with pytest.raises(InvalidInputError, match=r"/effective_bits: .* got nan"):
        two_level_plan(layers, importance, effective_bits=float("nan"), **formats)


@pytest.mark.parametrize("importance", [[1.0, 2.0], [1.0, 2.0, np.nan], [[1.0, 2.0, 3.0]]])
def test_importance_must_be_one_number_per_layer(importance: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="/importance: expected 3 finite numbers"):
        two_level_plan(layers_of(1, 1, 1), np.array(importance), high=HIGH, low=LOW, effective_bits=3)


@pytest.mark.parametrize(("high", "low"), [(LOW, HIGH), (LOW, LOW)])
def test_the_low_format_must_be_smaller(high: object, low: object) -> None:
    with pytest.raises(
        InvalidInputError, match=r"/low: 'int[24]' must take fewer bytes than 'int2'; swap them"
    ):
        two_level_plan(layers_of(4), np.array([1.0]), high=high, low=low, effective_bits=3)  # type: ignore[arg-type]
