from __future__ import annotations

import time

import numpy as np
import pytest

from allocator.contract.status import Status
from allocator.knapsack.deadline import Deadline
from allocator.solvers.outcome import found, relative_gap
from tests.allocator.problems import make

PROBLEM = make([[1, 0], [1, 0]], [[[2, 3], [2, 3]]], 5)


def test_a_bound_that_meets_the_objective_is_a_proof() -> None:
    outcome = found(PROBLEM, np.array([0, 1]), 1.0 - 1e-12)
    assert (outcome.status, outcome.bound) == (Status.OPTIMAL, 1.0)


def test_a_bound_below_the_objective_is_not() -> None:
    outcome = found(PROBLEM, np.array([0, 1]), 0.5)
    assert (outcome.status, outcome.bound) == (Status.FEASIBLE, 0.5)


def test_the_unlimited_optimum_bounds_everything() -> None:
    assert found(PROBLEM, np.array([0, 1]), -np.inf).bound == 0.0
    assert found(PROBLEM, np.array([1, 1]), -np.inf).status is Status.OPTIMAL


@pytest.mark.parametrize(
    ("objective", "bound", "expected"),
    [(2, 2, 0), (2, 1, 0.5), (0, 0, 0), (0, -1, 1), (-1, -2, 0.5), (1, -1, 2), (5, -np.inf, 1)],
)
def test_gaps_are_relative_to_the_larger(objective: float, bound: float, expected: float) -> None:
    assert relative_gap(objective, bound) == expected


def test_deadlines_pass() -> None:
    assert not Deadline(None).passed()
    assert Deadline(None).left_s() is None
    soon = Deadline(0.01)
    assert not soon.passed()
    time.sleep(0.02)
    assert soon.passed()
    assert soon.left_s() == 1e-3
