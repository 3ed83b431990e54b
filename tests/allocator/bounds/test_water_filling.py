from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from allocator import InvalidInputError
from allocator.bounds.water_filling import bits_at_price, fill_water
from allocator.knapsack.problem import FloatArray


def by_bisection(
    scale: FloatArray, average: float, theta: float, weight: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """By the definition: raise the level until the mean is met."""
    under, over = -1e4, 1e4
    for _ in range(200):
        level = (under + over) / 2
        bits = np.clip(level + np.log2(scale / weight) / theta, low, high)
        if (weight * bits).sum() > average * weight.sum():
            over = level
        else:
            under = level
    bits = np.clip(under + np.log2(scale / weight) / theta, low, high)
    return bits


def test_published_answers_are_reproduced(published: Callable[[str], Any]) -> None:
    cases = published("baq_closed_form_cases.json")
    assert len(cases) == 5
    for case in cases:
        high = np.inf if case["hi"] is None else case["hi"]
        found = fill_water(case["c"], case["R_avg"], theta=case["theta"], low=case["lo"], high=high)
        assert found.bits == pytest.approx(case["R_opt"], abs=1e-6), case["name"]
        assert found.loss == pytest.approx(case["loss_opt"], rel=1e-12), case["name"]
        free = fill_water(case["c"], case["R_avg"], theta=case["theta"])
        assert free.bits == pytest.approx(case["R_unclipped"], abs=1e-6), case["name"]
        assert free.loss / case["loss_uniform"] == pytest.approx(case["gm_over_am"])


def test_without_bounds_it_is_the_closed_form() -> None:
    scale = np.random.default_rng(0).lognormal(sigma=4, size=50)
    for theta in (0.5, 1.95, 2.0):
        closed = 2.5 + np.log2(scale / np.exp(np.log(scale).mean())) / theta
        assert fill_water(scale, 2.5, theta=theta).bits == pytest.approx(closed, abs=1e-11)


@pytest.mark.parametrize("seed", range(4))
def test_a_general_solver_finds_nothing_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, weight = rng.lognormal(sigma=2, size=8), rng.uniform(0.5, 3, size=8)
    found = fill_water(scale, 2.5, weights=weight, low=0.5, high=5)
    slsqp = minimize(
        lambda bits: float(scale @ np.exp2(-2 * bits)),
        np.full(8, 2.5),
        jac=lambda bits: -2 * np.log(2) * scale * np.exp2(-2 * bits),
        bounds=[(0.5, 5)] * 8,
        constraints={"type": "ineq", "fun": lambda bits: 2.5 * weight.sum() - weight @ bits},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.loss == pytest.approx(slsqp.fun, rel=1e-6)
    assert found.bits == pytest.approx(slsqp.x, abs=1e-3)


CASES = st.integers(0, 2**32 - 1)


def draw(seed: int) -> tuple[FloatArray, float, float, FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    units = int(rng.integers(1, 12))
    scale = rng.lognormal(sigma=rng.uniform(0, 6), size=units)
    if rng.random() < 0.3:
        scale[:] = scale[0]  # all breakpoints coincide
    weight = rng.integers(1, 5, units).astype(float)
    low = rng.integers(0, 3, units).astype(float)
    high = low + rng.integers(0, 7, units)  # some units have no choice
    least, most = weight @ low / weight.sum(), weight @ high / weight.sum()
    average = least + rng.uniform(0, 1.1) * (most - least)
    return scale, float(average), float(rng.uniform(0.3, 3)), weight, low, high


@given(CASES)
@settings(max_examples=300, deadline=None)
@pytest.mark.thorough
def test_agrees_with_bisection_and_satisfies_kkt(seed: int) -> None:
    scale, average, theta, weight, low, high = draw(seed)
    found = fill_water(scale, average, theta=theta, weights=weight, low=low, high=high)
    assert found.bits == pytest.approx(by_bisection(scale, average, theta, weight, low, high), abs=1e-9)
    assert ((low <= found.bits) & (found.bits <= high)).all()
    mean = float(weight @ found.bits / weight.sum())
    assert mean <= average + 1e-9
    if not found.at_high.all():
        assert mean == pytest.approx(average, abs=1e-9)
    saved = theta * np.log(2) * scale * np.exp2(-theta * found.bits) / weight  # by one more weighted bit
    inner = ~found.at_low & ~found.at_high
    assert saved[inner] == pytest.approx(np.full(inner.sum(), found.price), rel=1e-9)
    assert (saved[found.at_low & ~found.at_high] <= found.price * (1 + 1e-9)).all()
    assert (saved[found.at_high & ~found.at_low] >= found.price * (1 - 1e-9)).all()
    again = bits_at_price(scale, found.price * weight, theta, low, high)
    assert again == pytest.approx(found.bits, abs=1e-9)


@given(CASES, st.floats(1e-12, 1e12))
@settings(max_examples=100, deadline=None)
def test_order_and_scale_change_no_bits(seed: int, factor: float) -> None:
    scale, average, theta, weight, low, high = draw(seed)
    found = fill_water(scale, average, theta=theta, weights=weight, low=low, high=high)
    scaled = fill_water(scale * factor, average, theta=theta, weights=weight * 3, low=low, high=high)
    assert scaled.bits == pytest.approx(found.bits, abs=1e-9)
    assert scaled.loss == pytest.approx(found.loss * factor, rel=1e-9)
    order = np.random.default_rng(seed).permutation(scale.size)
    turned = fill_water(
        scale[order], average, theta=theta, weights=weight[order], low=low[order], high=high[order]
    )
    assert turned.bits == pytest.approx(found.bits[order], abs=1e-9)


def test_says_which_bounds_bind() -> None:
    found = fill_water([1e-6, 1.0, 1e6], 2.0, low=0.0, high=4.0)
    assert (found.at_low.tolist(), found.at_high.tolist()) == ([True, False, False], [False, False, True])
    assert found.bits.tolist() == [0.0, 2.0, 4.0]


def test_more_bits_than_anyone_can_use_have_no_price() -> None:
    found = fill_water([1.0, 2.0], 9.0, low=0.0, high=8.0)
    assert found.bits.tolist() == [8.0, 8.0]
    assert found.price == 0.0


def test_the_least_average_is_reachable_and_less_is_refused() -> None:
    low = np.array([0.1, 0.2, 0.3])
    assert fill_water(np.ones(3), float(low.mean()), low=low).bits == pytest.approx(low)
    with pytest.raises(InvalidInputError, match=r"/average_bits: expected at least 0\.2, .* got 0\.19"):
        fill_water(np.ones(3), 0.19, low=low)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coefficients": []}, "/coefficients: expected one finite number above 0"),
        ({"coefficients": [1.0, 0.0]}, "/coefficients"),
        ({"coefficients": [1.0, np.nan]}, "/coefficients"),
        ({"weights": -1.0}, "/weights: expected finite numbers above 0"),
        ({"low": 9.0, "high": 8.0}, "/low: expected least bits"),
        ({"low": np.nan}, "/low"),
        ({"theta": 0.0}, "/theta: expected a finite number above 0, got 0.0"),
        ({"average_bits": np.inf}, "/average_bits: expected a finite number, got inf"),
    ],
)
def test_refuses_what_has_no_answer(changes: dict[str, Any], words: str) -> None:
    fields: dict[str, Any] = {"coefficients": [1.0, 2.0], "average_bits": 3.0} | changes
    with pytest.raises(InvalidInputError, match=words):
        fill_water(fields.pop("coefficients"), fields.pop("average_bits"), **fields)
