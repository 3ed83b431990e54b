r"""Tables of latency against the clock: measured ≈ scale · Σ + constant.

A table adds up kernels; a runtime also spends time between them, and runs them warm or cold. Both errors are much the
same for all plans of a model, so two numbers correct most of the table. The scale is the median of the slopes between
measured plans (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 1968), which a few
disturbed measurements do not move; the line then goes through the middle of the plans that came close to the budget,
where it has to be right.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from allocator import Profile
from allocator.contract.profile import SizeRow

_LEAST_SCALE, _MOST_SCALE = 0.05, 20.0
_CLOSE = 0.05  # to the budget, of it


def line(
    summed: Sequence[float], measured: Sequence[float], near: float, apart: float = 0.0
) -> tuple[float, float]:
    """Fit the clock to the table.

    Args:
        summed: What the rows of the table add up to for each plan, without its constant.
        measured: What each plan took, in the same unit.
        near: The budget.
        apart: Slopes are taken between plans that the table tells apart by more than this.

    Returns:
        Scale and constant, neither below zero.

    Example:
        >>> line([100.0, 200.0, 300.0], [260.0, 460.0, 660.0], near=500.0)
        (2.0, 60.0)
    """
    slopes = [
        (measured[j] - measured[i]) / (summed[j] - summed[i])
        for i, j in combinations(range(len(summed)), 2)
        if abs(summed[j] - summed[i]) > apart
    ]
    scale = min(max(statistics.median(slopes), _LEAST_SCALE), _MOST_SCALE) if slopes else 1.0
    off = np.abs(np.array(measured) - near)
    close = off <= max(_CLOSE * abs(near), off.min())
    x, y = np.array(summed)[close], np.array(measured)[close]
    constant = float(np.median(y - scale * x))
    return (scale, constant) if constant >= 0 else (float(np.median(y / x)), 0.0)  # through zero


def with_line(profile: Profile, resource: str, scale: float, constant: float) -> Profile:
    """Correct a table.

    Args:
        resource: Name of the one to correct.
        scale: Factor of every value.
        constant: What the table spends whatever is chosen.

    Returns:
        The same profile with this table corrected.
    """
    table = profile.resources[resource]
    rows = tuple(_scaled(row, scale) for row in table.values)
    corrected = table.model_copy(update={"values": rows, "constant": constant})
    fusions = tuple(
        fusion.model_copy(
            update={
                "resources": {
                    name: _scaled(row, scale) if name == resource else row
                    for name, row in fusion.resources.items()
                }
            }
        )
        for fusion in profile.fusions
    )
    resources = {**profile.resources, resource: corrected}
    return profile.model_copy(update={"resources": resources, "fusions": fusions})


def median_us(run: Callable[[], object], *, runs: int = 25, warm_up: int = 3) -> float:
    """Time something.

    Args:
        run: What to time.
        runs: Times it is timed.
        warm_up: Times it runs before.

    Returns:
        Median microseconds.
    """
    taken = []
    for _ in range(warm_up + runs):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[warm_up:]) * 1e6


def _scaled(row: SizeRow, scale: float) -> SizeRow:
    return tuple(None if value is None else value * scale for value in row)
