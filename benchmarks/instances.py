"""Instances that all solvers are timed on: published tables, and random ones of the same character."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from allocator import Request, load_profile
from allocator.compile import compile_problem
from allocator.problem import Problem

_PUBLISHED = Path(__file__).parents[2] / "shared" / "data"


def random_instance(units: int, options: int, seed: int = 0) -> Problem:
    """Layers of different size and sensitivity, costs that fall about fourfold per bit, spends in whole bytes.

    Args:
        units: Number of units.
        options: Number of options per unit.
        seed: Seed.

    Returns:
        A problem with one limit, half way between the thriftiest and the most generous plan.
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


def published_instance(name: str, request: str) -> Problem | None:
    """A published table.

    Args:
        name: File name without its ending.
        request: Name of the request in the file.

    Returns:
        The problem, or None where the file is not on this machine.
    """
    path = _PUBLISHED / f"{name}.json"
    if not path.exists():
        return None
    case = json.loads(path.read_text())
    asked = next(item for item in case["requests"] if item["name"] == request)
    fields = {"objective": asked["objective"], "budgets": asked["budgets"]}
    return compile_problem(load_profile(case["profile"]), Request.model_validate(fields)).problem
