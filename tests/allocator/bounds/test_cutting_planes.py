from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from allocator.bounds.cutting_planes import Master
from allocator.knapsack.problem import FloatArray


def by_linprog(heights: FloatArray, slopes: FloatArray, box: float) -> float:
    limits = slopes.shape[1]
    result = linprog(
        np.append(-1.0, np.zeros(limits)),
        A_ub=np.column_stack([np.ones(len(heights)), -slopes]),
        b_ub=heights,
        bounds=[(None, None), *[(0, box)] * limits],
    )
    return float(result.x[0])


@pytest.mark.parametrize("limits", [1, 2, 3, 6])
@pytest.mark.thorough
def test_agrees_with_a_general_solver_after_every_cut(limits: int) -> None:
    rng = np.random.default_rng(limits)
    for _ in range(20):
        heights, slopes = rng.normal(size=40), rng.normal(size=(40, limits))
        model = Master(heights[0], slopes[0], box=3.0)
        for count in range(1, 40):
            model.cut(heights[count], slopes[count])
            expected = by_linprog(heights[: count + 1], slopes[: count + 1], 3.0)
            assert model.height == pytest.approx(expected, rel=1e-7, abs=1e-7)
            reached = (heights[: count + 1] + slopes[: count + 1] @ model.multipliers).min()
            assert reached == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_says_when_the_highest_point_is_on_the_edge() -> None:
    model = Master(0.0, np.array([1.0]), box=1.0)
    assert model.at_edge
    model.widen(100.0)
    assert model.height == pytest.approx(100.0)
    model.cut(50.0, np.array([-1.0]))
    assert not model.at_edge
    assert model.multipliers == pytest.approx([25.0])


def test_parallel_and_repeated_cuts_do_no_harm() -> None:
    model = Master(1.0, np.array([1.0, 0.0]), box=10.0)
    for height in (1.0, 0.5, 2.0, 0.5):
        model.cut(height, np.array([1.0, 0.0]))
    assert model.height == pytest.approx(10.5)
