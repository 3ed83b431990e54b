"""The process against textbook formulas with loops and inverses, and exchanges against all plans."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from allocator import make_request
from quantize.feedback.candidates import all_within, exchanges, optimum
from quantize.feedback.space import Space, space_of
from quantize.feedback.surrogate import fitted
from tests.quantize.feedback.problems import coupled


def space(bits: float = 4.0, layers: int = 4) -> Space:
    return space_of(coupled(layers)[0], make_request({"budgets": {"effective_bits": bits}}))


def measured(of: Space, count: int) -> tuple[np.ndarray, np.ndarray]:
    listed = all_within(of)
    assert listed is not None
    random = np.random.default_rng(0)
    plans = listed[random.permutation(len(listed))[:count]]
    return plans, of.predicted(plans) * random.lognormal(sigma=0.4, size=count)


def test_foresight_is_the_textbooks() -> None:
    of = space()
    plans, losses = measured(of, 8)
    surrogate = fitted(of, plans, losses)
    kernel, cost = surrogate.kernel, of.cost

    def k(first: np.ndarray, second: np.ndarray) -> float:
        p, q = (sum(cost[unit, plan[unit]] for unit in range(4)) for plan in (first, second))
        centre = np.mean([np.log(sum(cost[unit, plan[unit]] for unit in range(4))) for plan in plans])
        same = [unit for unit in range(4) if first[unit] == second[unit]]
        total = 1.0 + 0.1 * (np.log(p) - centre) * (np.log(q) - centre)
        total += kernel.table * sum(cost[unit, first[unit]] ** 2 for unit in same) / (p * q)
        return float(total + kernel.hamming * np.exp(-(4 - len(same)) / kernel.length))

    inverse = np.linalg.inv([[k(a, b) for b in plans] for a in plans] + 1e-6 * np.eye(8))
    ratios = np.log(losses) - np.log(of.predicted(plans))
    others = np.array(list(itertools.product(range(4), repeat=4)))[::17]
    mean, deviation = surrogate.log_loss(others)
    for plan, foreseen, spread in zip(others, mean, deviation, strict=True):
        cross = np.array([k(plan, known) for known in plans])
        log_p = np.log(of.predicted(plan[None]))[0]
        assert foreseen == pytest.approx(log_p + cross @ inverse @ ratios, abs=1e-6)
        assert spread == pytest.approx(np.sqrt(k(plan, plan) - cross @ inverse @ cross), abs=1e-4)


def test_a_measured_plan_is_foreseen_exactly() -> None:
    of = space()
    plans, losses = measured(of, 12)
    mean, deviation = fitted(of, plans, losses).log_loss(plans)
    assert np.exp(mean) == pytest.approx(losses, rel=1e-3)
    assert deviation.max() < 2e-3


def test_a_wrong_entry_of_the_table_is_found() -> None:
    of = space(8.0)
    wrong = of.cost.copy()
    wrong[2, 0] *= 1.5
    plans = np.array(list(itertools.product(range(4), repeat=4)))[::5]
    losses = of.with_cost(wrong).predicted(plans)
    corrected = fitted(of, plans, losses).corrected_cost()
    ratio = corrected / of.cost
    assert ratio[2, 0] / np.delete(ratio.ravel(), 8).max() > 1.2


def test_draws_surround_the_mean_and_depend_on_the_seed_only() -> None:
    of = space()
    plans, _ = measured(of, 6)
    table = of.cost * np.array([2.0, 1.0, 0.7, 1.0])
    surrogate = fitted(of, plans, of.with_cost(table).predicted(plans))
    draws = [np.log(surrogate.corrected_cost(np.random.default_rng(seed))) for seed in range(400)]
    again = np.log(surrogate.corrected_cost(np.random.default_rng(0)))
    assert np.array_equal(draws[0], again)
    spread = np.std(draws, axis=0)
    error = np.abs(np.mean(draws, axis=0) - np.log(surrogate.corrected_cost()))
    assert (error <= 4.5 * spread / np.sqrt(400) + 1e-9).all()
    assert spread.max() > 0


def test_exchanges_are_within_limits_and_differ_by_at_most_two_units() -> None:
    of = space(4.0)
    centre = optimum(of, of.cost)
    assert centre is not None
    found = {tuple(plan) for plan in exchanges(of, of.cost, centre).tolist()}
    listed = all_within(of)
    assert listed is not None
    away = (listed != centre).sum(axis=1)
    assert {tuple(plan) for plan in listed[away == 1].tolist()} <= found
    assert found <= {tuple(plan) for plan in listed[(away == 1) | (away == 2)].tolist()}
    # Every pair that gives to one unit and takes from another is there, for there are few.
    gain = of.cost - of.cost[np.arange(4), centre][:, None]
    for plan in listed[away == 2]:
        changes = [gain[unit, plan[unit]] for unit in np.flatnonzero(plan != centre)]
        if min(changes) < 0 <= max(changes):
            assert tuple(plan.tolist()) in found


def test_lists_are_all_plans_within_the_limits() -> None:
    of = space(3.0)
    listed = all_within(of)
    assert listed is not None
    problem = of.compiled.problem
    every = [plan for plan in itertools.product(range(4), repeat=4) if problem.feasible(np.array(plan))]
    assert [tuple(plan) for plan in listed.tolist()] == every


def test_the_optimum_is_that_of_the_list() -> None:
    of = space(3.0)
    listed = all_within(of)
    assert listed is not None
    best = optimum(of, of.cost)
    assert best is not None
    assert of.predicted(best[None])[0] == of.predicted(listed).min()
    nothing = space(1.0)
    assert optimum(nothing, nothing.cost) is None
