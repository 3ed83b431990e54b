from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from allocator.bounds.rate_law import fit_law
from allocator.knapsack.problem import Problem
from tests.allocator.problems import NAN, make

BITS = np.array([2.0, 3.0, 4.0, 8.0])


def lawful(rng: np.random.Generator, *, units: int = 4, theta: float = 2.0, limits: int = 1) -> Problem:
    """Costs c·2^(−θb) and spends s + w·b, with some options missing."""
    scale = rng.lognormal(sigma=2, size=(units, 1))
    base = rng.integers(0, 9, (limits, units, 1))
    weight = rng.integers(1, 9, (limits, units, 1))
    cost = scale * np.exp2(-theta * BITS)
    gone = rng.random(cost.shape) < 0.2
    gone[:, [0, 3]] = False
    spend = base + weight * BITS
    low, high = spend.min(axis=2).sum(axis=1), spend.max(axis=2).sum(axis=1)
    problem = make(np.where(gone, np.nan, cost), spend, low + rng.uniform(0.05, 0.8, limits) * (high - low))
    return replace(problem, bits=BITS)


@pytest.mark.parametrize("theta", [0.7, 1.95, 2.0])
@pytest.mark.parametrize("limits", [0, 1, 2])
def test_finds_the_law_behind_a_table(theta: float, limits: int) -> None:
    for seed in range(20):
        problem = lawful(np.random.default_rng(seed), theta=theta, limits=limits)
        law = fit_law(problem)
        assert law.theta == pytest.approx(theta)
        assert law.exact
        assert law.coefficient == pytest.approx(problem.cost[:, 0] * 2 ** (theta * 2.0))
        assert law.base + 2 * law.slope == pytest.approx(problem.spend[:, :, 0])
        assert law.cost_below <= 1e-12 * problem.cost.sum()
        assert (law.spend_below <= 1e-12 * problem.spend.sum()).all()
        assert (law.low.tolist(), law.high.tolist()) == ([2.0] * 4, [8.0] * 4)


def test_agrees_with_a_general_least_squares_solver() -> None:
    rng = np.random.default_rng(0)
    problem = lawful(rng)
    problem = replace(problem, cost=np.where(problem.available, problem.cost * rng.lognormal(size=(4, 4)), 0))
    unit, option = np.nonzero(problem.available)
    design = np.column_stack([np.eye(4)[unit], -BITS[option]])
    expected = np.linalg.lstsq(design, np.log2(problem.cost[unit, option]), rcond=None)[0]
    law = fit_law(problem)
    assert np.append(np.log2(law.coefficient), law.theta) == pytest.approx(expected)
    assert not law.exact


@pytest.mark.parametrize(
    "spoil", [(0, 0, 1 + 1e-8), (3, 3, 0.99), (2, 0, 0.0), (2, 3, -1.0)], ids=["up", "down", "zero", "minus"]
)
def test_one_departing_cost_is_not_exact(spoil: tuple[int, int, float]) -> None:
    unit, option, factor = spoil
    problem = lawful(np.random.default_rng(1))
    problem.cost[unit, option] *= factor
    assert not fit_law(problem).exact


def test_one_departing_spend_is_not_exact() -> None:
    problem = lawful(np.random.default_rng(1))
    problem.spend[0, 2, 0] += 1e-6
    assert not fit_law(problem).exact


def test_units_without_positive_costs_or_known_bits_have_no_law() -> None:
    problem = replace(make([[4, 1], [0, -1], [8, NAN], [4, 1]], np.zeros((0, 4, 2)), []), bits=BITS[:2])
    problem = replace(problem, label=np.array([[0, 1]] * 3 + [[-1, -1]]))
    law = fit_law(problem)
    assert law.described.tolist() == [True, False, True, False]
    assert law.theta == pytest.approx(2.0)
    assert law.coefficient[[0, 2]] == pytest.approx([4 * 2**4, 8 * 2**4])
    assert (law.exact, law.cost_below) == (False, np.inf)


@pytest.mark.parametrize(
    "cost", [[[1, 2], [1, 3]], [[1, NAN], [NAN, 2]], [[1, 1], [1, 1]], [[0, 0], [-1, 0]]]
)
def test_costs_that_do_not_fall_with_the_bits_have_no_law(cost: list[list[float]]) -> None:
    law = fit_law(make(cost, np.zeros((0, 2, 2)), []))
    assert np.isnan(law.theta)
    assert not law.described.any()


def test_coefficients_beyond_doubles_are_no_law() -> None:
    problem = replace(make([[1e300, 1e-300], [1, 1e-9]], np.zeros((0, 2, 2)), []), bits=np.array([8.0, 9.0]))
    assert fit_law(problem).described.tolist() == [False, False]
