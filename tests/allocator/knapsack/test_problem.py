"""What stands in for slower or less repeatable calls of numpy gives what they would."""

from __future__ import annotations

import numpy as np
import pytest

from allocator.knapsack.problem import ascending, lagrangian_cost, masked_cost, masked_spend, weighted
from tests.allocator.problems import random_problem


@pytest.mark.parametrize("size", [0, 1, 2, 999, 1_000, 1_001, 5_000])
@pytest.mark.parametrize("distinct", [3, 10**12])
def test_ascending_is_the_stable_order(size: int, distinct: int) -> None:
    values = np.random.default_rng(size).integers(0, distinct, size).astype(float)
    assert ascending(values).tolist() == np.argsort(values, kind="stable").tolist()


@pytest.mark.parametrize("limits", [0, 1, 2, 3])
def test_the_lagrangian_is_costs_plus_priced_spends(limits: int) -> None:
    rng = np.random.default_rng(limits)
    for _ in range(20):
        problem = random_problem(rng, limits=limits)
        prices = rng.random(limits) * rng.integers(0, 2, limits)  # zeros among them
        before = problem.spend.copy(), problem.cost.copy()
        np.testing.assert_allclose(
            weighted(problem.spend, prices), np.tensordot(prices, problem.spend, axes=1), rtol=1e-12
        )
        found = lagrangian_cost(problem, prices)
        for unit, option in np.ndindex(found.shape):
            expected = problem.cost[unit, option] + sum(
                price * problem.spend[row, unit, option] for row, price in enumerate(prices)
            )
            if not problem.available[unit, option]:
                expected = np.inf
            assert found[unit, option] == pytest.approx(expected, rel=1e-12)
        assert (problem.spend == before[0]).all()
        assert (problem.cost == before[1]).all()


def test_masks_hide_what_is_not_available() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        problem = random_problem(rng, limits=2)
        assert (np.isposinf(masked_cost(problem)) == ~problem.available).all()
        assert (np.isposinf(masked_spend(problem)) == ~problem.available).all()
