"""Thousands of small random requests, answered in full and compared with the list of all plans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from allocator import Status, solve
from tests.allocator.oracle import Document, best_plan

REQUESTS, LARGEST = 5_000, 100
_CHUNKS = 10


def draw(rng: np.random.Generator, layers: int = 0, formats: int = 0) -> tuple[Document, Document]:
    if not layers:
        layers, formats = int(rng.integers(1, 8)), int(rng.integers(1, 6))
        while formats**layers > 4096:
            layers -= 1
    names = [f"block.{at // 3}.{at}" for at in range(layers)]
    fused = layers > 1 and rng.random() < 0.5
    costs = rng.integers(-4, 9, (layers, formats)) * float(rng.choice([1.0, 1e-6, 1e6]))
    spends = rng.integers(0, 8, (2, layers, formats))
    if rng.random() < 0.2:
        spends[0] = spends[0, 0]  # equal sizes
    profile: Document = {
        "formats": {f"f{at}": {"weight_bits": 1 + at} for at in range(formats)},
        "layers": [_layer(rng, name, in_units=not fused) for name in names],
        "costs": {"loss": {"values": _with_nulls(rng, costs)}},
        "resources": {"a": {"values": spends[0].tolist()}, "b": {"values": spends[1].tolist()}},
        "fusions": [],
    }
    if fused:
        profile["fusions"] = [_fusion(rng, names, formats, at) for at in range(int(rng.integers(1, 4)))]
    return profile, _request(rng, names, spends)


def _layer(rng: np.random.Generator, name: str, *, in_units: bool) -> Document:
    return {"name": name} | ({"unit": f"u{rng.integers(2)}"} if in_units and rng.random() < 0.3 else {})


def _with_nulls(rng: np.random.Generator, costs: np.ndarray) -> list[list[float | None]]:
    gone = rng.random(costs.shape) < 0.1
    gone[:, rng.integers(costs.shape[1])] = False
    return [
        [None if out else float(value) for value, out in zip(*row, strict=True)]
        for row in zip(costs, gone, strict=True)
    ]


def _fusion(rng: np.random.Generator, names: list[str], formats: int, at: int) -> Document:
    members = rng.choice(names, size=int(rng.integers(2, min(4, len(names)) + 1)), replace=False)
    spent: list[Any] = rng.integers(0, 8, formats).tolist()
    if rng.random() < 0.3:
        spent[int(rng.integers(formats))] = None
    return {"name": f"fused{at}", "layers": members.tolist(), "resources": {"a": spent}}


def _request(rng: np.random.Generator, names: list[str], spends: np.ndarray) -> Document:
    request: Document = {"objective": {"loss": 1.0}, "budgets": {}, "limits": []}
    if rng.random() < 0.15:
        request["objective"] = {"loss": 1.0, "b": 2.0}
    least, most = spends.min(axis=2).sum(axis=1), spends.max(axis=2).sum(axis=1)
    for at, name in enumerate("ab"):
        if rng.random() < 0.6:
            amount = int(least[at] + rng.uniform(-0.1, 1.0) * (most[at] - least[at]))
            request["budgets"][name] = max(0, amount)
    for at in range(int(rng.integers(0, 2))):
        row: Document = {"name": f"row{at}", "table": str(rng.choice(["b", "count"]))}
        if row["table"] == "count":
            del row["table"]
            row["formats"] = ["f0"]
        if rng.random() < 0.5:
            row["layers"] = ["block.0.*"]
        sides = sorted(rng.integers(0, 3 * len(names), 2).tolist())
        row |= {"min": sides[0]} if rng.random() < 0.5 else {}
        row |= {"max": sides[1]} if "min" not in row or rng.random() < 0.5 else {}
        request["limits"].append(row)
    return request


@pytest.mark.parametrize("chunk", range(_CHUNKS))
@pytest.mark.thorough
def test_agrees_with_the_list_of_all_plans(chunk: int) -> None:
    rng = np.random.default_rng(chunk)
    requests = (draw(rng) for _ in range(REQUESTS // _CHUNKS))
    assert _statuses(requests) == {Status.OPTIMAL, Status.INFEASIBLE}


@pytest.mark.thorough
def test_agrees_with_the_list_of_all_plans_of_seven_layers_in_five_formats() -> None:
    rng = np.random.default_rng(_CHUNKS)
    assert Status.OPTIMAL in _statuses(draw(rng, 7, 5) for _ in range(LARGEST))


def _statuses(requests: Iterable[tuple[Document, Document]]) -> set[Status]:
    """How the requests ended; every one is compared with all plans."""
    statuses = set()
    for trial, (profile, request) in enumerate(requests):
        expected, found = best_plan(profile, request), solve(profile, **request)
        statuses.add(found.status)
        if expected is None:
            assert found.status is Status.INFEASIBLE, trial
        else:
            assert found.status is Status.OPTIMAL, trial
            assert found.objective == pytest.approx(expected.objective, rel=1e-12, abs=1e-18), trial
    return statuses


@pytest.mark.parametrize("solver", ["highs", "pulp", "cpsat"])
@pytest.mark.thorough
def test_whole_model_solvers_take_the_same_requests(solver: str) -> None:
    rng = np.random.default_rng(1000)
    for trial in range(80):
        profile, request = draw(rng)
        expected, found = best_plan(profile, request), solve(profile, **request, solver=solver)
        if expected is None:
            assert found.status is Status.INFEASIBLE, trial
        else:
            assert found.status is Status.OPTIMAL, trial
            assert found.objective == pytest.approx(expected.objective, rel=1e-9, abs=1e-15), trial
