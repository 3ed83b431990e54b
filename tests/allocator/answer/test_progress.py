"""What a search tells on its way agrees with what it answers at the end."""

from __future__ import annotations

import numpy as np
import pytest

from allocator import load_profile, solve
from allocator.answer.solve import SolveProgress, solve_request
from allocator.contract.request import make_request


def _hard(layers: int = 30, better: str = "lower") -> dict[str, object]:
    rng = np.random.default_rng(3)
    cost = rng.integers(100, 999, (layers, 4)).astype(float)
    spends = {name: {"values": (cost + rng.integers(0, 99, cost.shape)).tolist()} for name in ("a", "b")}
    return {
        "formats": {f"int{bits}": {"weight_bits": bits} for bits in (2, 3, 4, 8)},
        "layers": [{"name": f"layer.{index}"} for index in range(layers)],
        "costs": {"kl": {"values": (cost if better == "higher" else 1000 - cost).tolist(), "better": better}},
        "resources": spends,
    }


@pytest.mark.parametrize("solver", ["exact", "cpsat"])
@pytest.mark.parametrize("better", ["lower", "higher"])
def test_plans_get_better_and_bounds_hold(solver: str, better: str) -> None:
    profile = load_profile(_hard(better=better))
    budgets = {"a": 17_000, "b": 17_200}
    heard: list[SolveProgress] = []
    request = make_request({"solver": solver, "budgets": budgets, "time_limit_s": 30})
    answer = solve_request(profile, request, heard.append)
    assert heard
    assert answer.model_copy(update={"solver": None}) == solve(
        profile, solver=solver, budgets=budgets, time_limit_s=30
    ).model_copy(update={"solver": None})
    sign = -1.0 if better == "higher" else 1.0
    assert answer.objective is not None
    known = [sign * item.objective for item in heard if item.objective is not None]
    assert known == sorted(known, reverse=True)
    assert all(value >= sign * answer.objective - 1e-6 for value in known)
    for item in heard:
        assert item.bound is None or sign * item.bound <= sign * answer.objective + 1e-6
        assert item.gap is None or item.gap >= 0
    assert [item.seconds for item in heard] == sorted(item.seconds for item in heard)
