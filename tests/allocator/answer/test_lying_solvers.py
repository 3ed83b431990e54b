"""Whatever a solver claims, a plan that breaks the request is never handed out."""

from __future__ import annotations

from itertools import islice, product
from typing import Any

import numpy as np
import pytest

from allocator import SOLVERS, CertificateError, Status, solve, solvers
from allocator.knapsack.problem import IntArray, Problem
from allocator.solvers.exact import search as exact
from allocator.solvers.outcome import Effort, Outcome
from tests.allocator.profiles import profile_json, with_units

FUSED = {"name": "block", "layers": ["block.0.up", "block.0.down"], "resources": {"latency_us": [4, 5, 6]}}
EMPTY = {"costs": {"kl": {"values": [[0.9, None, 0.0], [0.8, 0.2, 0.0], [2.0, 0.5, 0.1]]}}}

#: What is asked, of which profile, and what every plan that breaks it is told.
REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a budget": (
        {},
        {"budgets": {"weight_bytes": 100}},
        "weight_bytes: .* is above the most allowed, 100 byte",
    ),
    "two budgets": (
        {},
        {"budgets": {"weight_bytes": 200, "latency_us": 30}},
        "(weight_bytes|latency_us): .* is above the most allowed",
    ),
    "a least amount": (
        {},
        {"limits": [{"name": "floor", "table": "weight_bytes", "min": 200}]},
        "floor: .* is below the least allowed, 200 byte",
    ),
    "a least count": (
        {},
        {"limits": [{"name": "wide", "formats": ["int8"], "min": 2}]},
        "wide: [01] layer is below the least allowed, 2 layer",
    ),
    "a band": (
        {},
        {"limits": [{"name": "band", "table": "weight_bytes", "min": 150, "max": 170}]},
        "band: .* is (below the least|above the most) allowed",
    ),
    "a fused budget": (
        {"fusions": [FUSED]},
        {"budgets": {"latency_us": 26}},
        "latency_us: .* is above the most allowed, 26 us",
    ),
    "units": (
        {"layers": with_units("u", None, "u")},
        {"budgets": {"weight_bytes": 160}},
        "weight_bytes: .* is above the most allowed, 160 byte",
    ),
}


def infeasible_choice(problem: Problem) -> IntArray:
    plans = product(*(np.flatnonzero(row).tolist() for row in problem.available))
    return next(plan for plan in map(np.array, islice(plans, 10_000)) if not problem.feasible(plan))


def unavailable_choice(problem: Problem) -> IntArray:
    unit, option = np.argwhere(~problem.available)[0]
    choice = problem.available.argmax(axis=1)
    choice[unit] = option
    return choice


def lie(monkeypatch: pytest.MonkeyPatch, choose: Any, status: Status) -> None:
    def liar(problem: Problem, effort: Effort) -> Outcome:
        del effort
        return Outcome(status, choose(problem), -1e9)

    monkeypatch.setattr(solvers.Entry, "load", lambda _: liar)


@pytest.mark.parametrize("status", [Status.OPTIMAL, Status.FEASIBLE])
@pytest.mark.parametrize("solver", sorted(SOLVERS.keys() - {"auto"}))
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.thorough
def test_plans_beyond_a_limit_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, solver: str, status: Status
) -> None:
    changes, fields, words = REQUESTS[name]
    assert solve(profile_json(**changes), **fields).status is Status.OPTIMAL
    lie(monkeypatch, infeasible_choice, status)
    with pytest.raises(
        CertificateError, match=f"solver '{solver}' gave a plan that breaks the request: .*{words}"
    ):
        solve(profile_json(**changes), solver=solver, **fields)


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({}, {"pin": {"head": "int8"}}, "head: 'int2' breaks the rule for 'head'"),
        ({}, {"forbid": {"*.up": ["int2"]}}, r"block.0.up: 'int2' breaks the rule for '\*.up'"),
        ({}, {"allow": {"*": ["int8"]}}, r"block.0.up: 'int2' breaks the rule for '\*'"),
        (EMPTY, {}, "block.0.up: table 'kl' has no value for its format"),
    ],
)
def test_options_that_are_not_on_offer_are_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], fields: dict[str, Any], words: str
) -> None:
    lie(monkeypatch, unavailable_choice, Status.OPTIMAL)
    with pytest.raises(CertificateError, match=words):
        solve(profile_json(**changes), **fields)


def test_the_last_of_several_objectives_is_certified_too(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def second_lies(problem: Problem, effort: Effort) -> Outcome:
        calls.append(problem)
        if len(calls) == 1:
            return exact.solve(problem, effort)
        return Outcome(Status.OPTIMAL, np.full(problem.units, 2), 0.0)

    monkeypatch.setattr(solvers.Entry, "load", lambda _: second_lies)
    with pytest.raises(CertificateError, match="weight_bytes: 320 byte is above the most allowed, 200 byte"):
        solve(profile_json(), objective=["kl", "latency_us"], budgets={"weight_bytes": 200})
    assert len(calls) == 2


def test_the_objective_is_that_of_the_tables_whatever_the_solver_claims(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lie(monkeypatch, lambda problem: np.zeros(problem.units, dtype=np.int64), Status.FEASIBLE)
    answer = solve(profile_json())
    assert answer.objective == pytest.approx(0.9 + 0.8 + 2.0)
    assert answer.bound == -1e9
    assert answer.usage == {}


def test_an_optimum_that_the_plan_does_not_cost_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lie(monkeypatch, lambda problem: np.zeros(problem.units, dtype=np.int64), Status.OPTIMAL)
    with pytest.raises(
        CertificateError, match=r"proved an objective of -1000000000\.0, but its plan has 3\.7"
    ):
        solve(profile_json())


def test_a_later_objective_cannot_worsen_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def second_lies(problem: Problem, effort: Effort) -> Outcome:
        calls.append(problem)
        if len(calls) == 1:
            return exact.solve(problem, effort)
        return Outcome(Status.OPTIMAL, np.zeros(problem.units, dtype=np.int64), 0.0)

    monkeypatch.setattr(solvers.Entry, "load", lambda _: second_lies)
    with pytest.raises(CertificateError, match=r"proved an objective of 0\.1, but its plan has 3\.7"):
        solve(profile_json(), objective=["kl", "latency_us"])
