"""Random requests that are too large to enumerate: exact against CP-SAT, which shares none of its ideas."""

from __future__ import annotations

import numpy as np
import pytest

from allocator import Allocation, Status, solve
from tests.allocator.oracle import Document

PROBLEMS = 304
_CHUNKS = 8
_CPSAT_S = 1.0
_EXACT_S = 2.0


def draw(rng: np.random.Generator) -> tuple[Document, Document]:
    """Integer tables, so that CP-SAT is exact: 20 to 200 units, 2 to 8 formats, 1 to 3 limits, fusions, ties."""
    layers, formats = round(20 * 10 ** rng.random()), int(rng.integers(2, 9))
    names = [f"block.{at // 7}.{at % 7}" for at in range(layers)]
    bits = np.arange(1, formats + 1)
    size = rng.integers(1, 100, (layers, 1))
    if rng.random() < 0.2:
        size[:] = 10  # equal sizes
    kind = rng.choice(["falling", "noise", "tied"])
    if kind == "falling":
        costs = (
            rng.integers(1, 10**5, (layers, 1))
            * 2.0 ** (-2 * bits)
            * rng.lognormal(sigma=0.3, size=(1, formats))
        )
        costs = np.rint(costs + rng.integers(-20, 20, (layers, formats)))
    else:
        costs = rng.integers(-4, 9, (layers, formats)) * (
            1 if kind == "tied" else rng.integers(1, 999, (layers, 1))
        )
    latency = rng.integers(0, 50, (layers, formats))
    profile: Document = {
        "formats": {f"f{at}": {"weight_bits": int(at)} for at in bits},
        "layers": [{"name": name} for name in names],
        "costs": {"loss": {"values": costs.astype(float).tolist()}},
        "resources": {"bytes": {"values": (size * bits).tolist()}, "us": {"values": latency.tolist()}},
        "fusions": [],
    }
    if rng.random() < 0.4:
        profile["fusions"] = _fusions(rng, names, formats)
    elif rng.random() < 0.5:
        for layer in profile["layers"]:
            if rng.random() < 0.3:
                layer["unit"] = f"u{rng.integers(layers // 3)}"
    return profile, _request(rng, size * bits, latency)


def _fusions(rng: np.random.Generator, names: list[str], formats: int) -> list[Document]:
    found = []
    for first in range(0, len(names) - 3, 7):
        for at, members in enumerate(([0, 1], [1, 2], [0, 1, 2])):
            if rng.random() < 0.5:
                row = {"us": rng.integers(0, 60, formats).tolist()}
                layers = [names[first + member] for member in members]
                found.append({"name": f"fused.{first}.{at}", "layers": layers, "resources": row})
    return found


def _request(rng: np.random.Generator, size: np.ndarray, latency: np.ndarray) -> Document:
    def between(table: np.ndarray, low: float, high: float) -> int:
        least, most = table.min(axis=1).sum(), table.max(axis=1).sum()
        return max(0, int(least + rng.uniform(low, high) * (most - least)))

    budgets = {"bytes": between(size, -0.02, 0.9)}
    if rng.random() < 0.5:
        budgets["us"] = between(latency, 0.1, 0.9)
    limits: list[Document] = []
    if rng.random() < 0.3:
        low, high = sorted(rng.integers(0, len(size), 2).tolist())
        limits.append(
            {"formats": ["f1"], "min": low} if rng.random() < 0.5 else {"formats": ["f1"], "max": high}
        )
    elif rng.random() < 0.3:
        limits.append({"table": "bytes", "layers": ["block.0.*"], "max": between(size[:7], 0.0, 0.9)})
    return {"objective": "loss", "budgets": budgets, "limits": limits}


def agree(exact: Allocation, other: Allocation) -> None:
    """Equal where both are proved; else neither may contradict what the other proved."""
    proved = {Status.OPTIMAL, Status.INFEASIBLE}
    if exact.status in proved and other.status in proved:
        assert (exact.status, exact.objective) == (other.status, other.objective)
    for one, two in ((exact, other), (other, exact)):
        if one.status is Status.INFEASIBLE:
            assert two.objective is None
        if one.bound is not None and two.objective is not None:
            assert one.bound <= two.objective + 1e-9 * abs(two.objective)


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(_CHUNKS))
def test_agrees_with_cpsat(chunk: int) -> None:
    rng = np.random.default_rng(chunk)
    count = PROBLEMS // _CHUNKS
    settled = {"exact": 0, "cpsat": 0}
    for trial in range(count):
        profile, request = draw(rng)
        exact = solve(profile, **request, solver="exact", time_limit_s=_EXACT_S)
        other = solve(profile, **request, solver="cpsat", time_limit_s=_CPSAT_S)
        try:
            agree(exact, other)
        except AssertionError as error:
            error.add_note(f"chunk {chunk}, trial {trial}")
            raise
        for found in (exact, other):
            settled[found.solver.name] += found.status in {Status.OPTIMAL, Status.INFEASIBLE}
    assert settled["exact"] >= 0.8 * count, settled
    assert settled["cpsat"] >= 0.6 * count, settled
