"""Instances that all solvers are timed on: published tables, and random ones of the same character."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from allocator import Request, load_profile
from allocator.knapsack.compile import compile_problem
from allocator.knapsack.problem import FloatArray, Problem
from allocator.solvers.exact import search as exact
from allocator.solvers.outcome import Effort

_PUBLISHED = Path(__file__).parents[1] / "tests" / "data"


@dataclass(frozen=True)
class Instance:
    """A problem and the limits it is solved under.

    Attributes:
        make: Builds the problem.
        points: Number of limits between the least and the most that plans spend; 1 for the problem's own.
        supported: Whether the supported frontier is wanted rather than plans at limits.
    """

    make: Callable[[], Problem]
    points: int = 1
    supported: bool = False

    def limits(self, problem: Problem) -> list[FloatArray]:
        """Return the limits, (R,) arrays."""
        if self.points == 1:
            return [problem.limit]
        low, high = problem.spend.min(axis=2).sum(axis=1), problem.spend.max(axis=2).sum(axis=1)
        return [np.floor(low + share * (high - low)) for share in np.linspace(0, 1, self.points)]


def random_instance(units: int, options: int, seed: int = 0) -> Problem:
    """Layers of different size and sensitivity, costs that fall about fourfold per bit, spends in whole bytes.

    Args:
        units: Number of units.
        options: Number of options per unit.

    Returns:
        A problem with one limit, half way between the lightest and the most generous plan.
    """
    rng = np.random.default_rng(seed)
    bits = np.linspace(2, 8, options)
    weights = 64 * rng.integers(2**6, 2**14, units)
    spend = np.ceil(weights[:, None] * bits / 8) + 2 * weights[:, None] / 64  # (U, F)
    scale = rng.lognormal(sigma=1.5, size=units)
    cost = scale[:, None] * 4.0**-bits * (1 + 0.3 * rng.random((units, options)))
    limit = np.floor((spend.min(axis=1) + spend.max(axis=1)).sum() / 2)
    return Problem(
        cost,
        spend[None],
        np.array([limit]),
        np.ones(cost.shape, dtype=bool),
        np.broadcast_to(np.arange(options), cost.shape),
        bits,
    )


def two_budgets(units: int, options: int, seed: int = 0) -> Problem:
    """The same with latency as a second budget that binds: 97 % of what the optimum under the first one takes.

    Args:
        units: Number of units.
        options: Number of options per unit.

    Returns:
        A problem with two limits.
    """
    one = random_instance(units, options, seed)
    rng = np.random.default_rng(seed + 1)
    weights = one.spend[0][:, -1:] / one.bits[-1]
    latency = np.rint(weights * (0.4 + 0.6 * one.bits / 8) * (1 + 0.2 * rng.random(one.cost.shape)) * 8)
    choice = exact.solve(one, Effort()).choice
    assert choice is not None
    most = np.floor(0.97 * latency[np.arange(units), choice].sum())
    return replace(one, spend=np.stack([one.spend[0], latency]), limit=np.append(one.limit, most))


def published_instance(name: str, request: str) -> Problem:
    """A published table.

    Args:
        name: File name without its ending.
        request: Name of the request in the file.

    Returns:
        The problem.
    """
    case = json.loads((_PUBLISHED / f"{name}.json").read_text("utf-8"))
    asked = next(item for item in case["requests"] if item["name"] == request)
    fields = {"objective": asked["objective"], "budgets": asked["budgets"]}
    return compile_problem(load_profile(case["profile"]), Request.model_validate(fields)).problem


_SIZES = ((225, 8), (1_000, 8), (10_000, 6), (50_000, 8))
_QPALETTE = partial(published_instance, "qpalette_llama31_8b", "3.25 bits")

INSTANCES: dict[str, Instance] = {
    **{
        f"{units:,} × {options}, one budget": Instance(partial(random_instance, units, options))
        for units, options in _SIZES
    },
    "Q-Palette 3.25 bits, 224 × 15, one budget": Instance(_QPALETTE),
    **{
        f"{units:,} × {options}, two budgets": Instance(partial(two_budgets, units, options))
        for units, options in _SIZES
    },
    "225 × 8, supported frontier": Instance(partial(random_instance, 225, 8), supported=True),
    "225 × 8, 1,000 exact points": Instance(partial(random_instance, 225, 8), points=1_000),
    "1,000 × 8, 1,000 exact points": Instance(partial(random_instance, 1_000, 8), points=1_000),
}
