"""The rival: offspring keep the size, no plan is measured twice, and it gets better."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.evolution import evolve

SPEND = np.outer(np.ones(6), [2.0, 3.0, 4.0, 8.0])
TARGET = np.array([3, 0, 1, 2, 0, 0])


def loss(plan: np.ndarray) -> float:
    return float(1 + np.abs(plan - TARGET).sum())


@pytest.mark.parametrize("offspring", [1, 4])
def test_it_searches_within_the_limit(offspring: int) -> None:
    start = np.full(6, 1)
    found = evolve(SPEND, 21.0, [start], loss, evaluations=80, offspring=offspring)
    assert len(found) == len({bytes(plan) for plan, _ in found}) == 80
    assert all(SPEND[np.arange(6), plan].sum() <= 21 for plan, _ in found)
    assert min(value for _, value in found) < loss(start)
    again = evolve(SPEND, 21.0, [start], loss, evaluations=80, offspring=offspring)
    assert [value for _, value in again] == [value for _, value in found]


def test_it_ends_when_there_is_nothing_new() -> None:
    found = evolve(SPEND[:2, :2], 5.0, [np.array([0, 1])], lambda plan: float(plan[0]), evaluations=50)
    assert sorted(plan.tolist() for plan, _ in found) == [[0, 1], [1, 0]]
