"""Random requests with what real tables have: peaks, constants, nulls beside fusions, bands, blown-up scores.

Every answer of every solver that proves is compared with the list of all plans, under a time limit and without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allocator import Allocation, Status, solve
from tests.allocator.oracle import Document, best_plan

SOLVERS = ("auto", "exact", "highs", "pulp", "cpsat")


def draw(rng: np.random.Generator) -> tuple[Document, Document]:
    """Two to five layers, two or three formats, integer tables."""
    layers, formats = int(rng.integers(2, 6)), int(rng.integers(2, 4))
    names = [f"block.{at // 2}.{at % 2}" for at in range(layers)]
    profile: Document = {
        "formats": {f"f{at}": {"weight_bits": at + 1} for at in range(formats)},
        "layers": [{"name": name, "parameters": int(rng.integers(1, 9))} for name in names],
        "costs": {"loss": {"values": _scores(rng, layers, formats)}},
        "resources": {
            "bytes": _resource(rng, layers, formats, nulls=0.0),
            "us": _resource(rng, layers, formats, nulls=0.15),
            "peak": _resource(rng, layers, formats, nulls=0.1) | {"combine": "max"},
        },
        "fusions": _fusions(rng, names, formats),
    }
    return profile, _request(rng, profile, names, formats)


def _scores(rng: np.random.Generator, layers: int, formats: int) -> list[list[float]]:
    scores = rng.integers(-4, 30, (layers, formats)).astype(float)
    if rng.random() < 0.4:
        scores[rng.random(scores.shape) < 0.2] = rng.choice([1e10, 1e12])
    return scores.tolist()  # type: ignore[no-any-return]


def _resource(rng: np.random.Generator, layers: int, formats: int, nulls: float) -> Document:
    values: list[list[Any]] = rng.integers(0, 12, (layers, formats)).tolist()
    for row in values:
        for column in range(1, formats):  # every layer keeps its first format
            if rng.random() < nulls:
                row[column] = None
    return {"values": values, "constant": int(rng.integers(0, 9)) if rng.random() < 0.6 else 0}


def _fusions(rng: np.random.Generator, names: list[str], formats: int) -> list[Document]:
    if rng.random() < 0.5:
        return []
    row: list[Any] = rng.integers(0, 20, formats).tolist()
    if rng.random() < 0.3:
        row[-1] = None
    return [{"name": "fused", "layers": names[:2], "resources": {"us": row}}]


def _request(rng: np.random.Generator, profile: Document, names: list[str], formats: int) -> Document:
    limits: list[Document] = []
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.choice(["us", "bytes", "peak", "count"])
        part = rng.random() < 0.5
        limit: Document = {"name": f"limit {len(limits)}"}
        if kind != "count":
            limit["table"] = str(kind)
        if part and (kind != "us" or not profile["fusions"]):
            limit["layers"] = ["block.0.*"]
        if rng.random() < 0.4:
            limit["formats"] = ["f0"] if rng.random() < 0.5 else [f"f{formats - 1}"]
        most = {"count": len(names), "peak": 18}.get(str(kind), 9 * len(names))
        limit["max"] = int(rng.integers(0, most + 1))
        if kind != "peak" and rng.random() < 0.5:
            limit["min"] = int(rng.integers(0, limit["max"] + 1))
        limits.append(limit)
    budgets = {"bytes": int(rng.integers(2, 10 * len(names)))} if rng.random() < 0.5 else {}
    return {"objective": {"loss": 1.0}, "budgets": budgets, "limits": limits}


def _agree(profile: Document, request: Document, answer: Allocation) -> bool:
    expected = best_plan(profile, request)
    if expected is None:
        return answer.status is Status.INFEASIBLE
    assert answer.objective is not None
    assert answer.bound is not None
    return answer.status is Status.OPTIMAL and answer.objective == pytest.approx(
        expected.objective, rel=1e-15
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.thorough
def test_every_solver_agrees_with_the_list_of_all_plans(solver: str) -> None:
    rng = np.random.default_rng(SOLVERS.index(solver))
    statuses = set()
    for trial in range(150 if solver in {"auto", "exact"} else 60):
        profile, request = draw(rng)
        answer = solve(profile, **request, solver=solver)
        assert _agree(profile, request, answer), (trial, profile, request, answer)
        statuses.add(answer.status)
    assert statuses == {Status.OPTIMAL, Status.INFEASIBLE}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("time_limit_s", [1e-6, 0.02])
def test_under_a_time_limit_nothing_untrue_is_said(time_limit_s: float, solver: str) -> None:
    rng = np.random.default_rng(100)
    for trial in range(25):
        profile, request = draw(rng)
        expected = best_plan(profile, request)
        answer = solve(profile, **request, solver=solver, time_limit_s=time_limit_s)
        if answer.status is Status.INFEASIBLE:
            assert expected is None, trial
        if answer.objective is not None:
            assert expected is not None, trial
            assert answer.bound is not None
            assert answer.bound <= expected.objective * (1 + 1e-12) + 1e-9 <= answer.objective + 2e-9, trial
        if answer.status is Status.OPTIMAL:
            assert expected is not None, trial
            assert answer.objective == pytest.approx(expected.objective, rel=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_an_answer_prints_can_be_asked_for(solver: str) -> None:
    rng = np.random.default_rng(200)
    asked = 0
    for trial in range(40 if solver in {"auto", "exact"} else 15):
        profile, request = draw(rng)
        answer = solve(profile, **request, solver=solver)
        if answer.objective is None:
            continue
        limits = []
        for limit in request["limits"]:
            used = answer.usage[limit["name"]].used
            limits.append(limit | {"max": used} | ({"min": used} if "min" in limit else {}))
        budgets = {name: answer.usage[name].used for name in request["budgets"]}
        again = solve(profile, **request | {"limits": limits, "budgets": budgets}, solver=solver)
        assert again.objective == pytest.approx(answer.objective, rel=1e-15), trial
        asked += 1
    assert asked > 5
