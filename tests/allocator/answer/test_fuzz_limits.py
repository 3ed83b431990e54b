"""Bands, pools, equalities, demands and time limits: random requests, answered in full and compared with all plans."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest

from allocator import Allocation, Status, explain, solve
from allocator.knapsack.deadline import Deadline

Document = dict[str, Any]


@dataclass(frozen=True)
class Plans:
    """Every plan of a profile: what it costs by each objective, and what it adds up to by each row."""

    costs: np.ndarray  # (K, N)
    amounts: dict[str, np.ndarray]  # name of a limit → (N,)
    low: dict[str, float]
    high: dict[str, float]

    def keeping(self, *, without: str | None = None) -> np.ndarray:
        kept = np.ones(self.costs.shape[1], dtype=bool)
        for name, amount in self.amounts.items():
            if name != without:
                kept &= (amount >= self.low[name]) & (amount <= self.high[name])
        return kept


def all_plans(profile: Document, request: Document) -> Plans:
    formats, layers = list(profile["formats"]), [layer["name"] for layer in profile["layers"]]
    plans = np.indices([len(formats)] * len(layers)).reshape(len(layers), -1).T  # (N, L)
    tables = {**profile["costs"], **profile["resources"]}
    rows = np.arange(len(layers))
    costs = [np.array(tables[name]["values"])[rows, plans].sum(axis=1) for name in request["objective"]]
    amounts = {}
    for limit in request["limits"]:
        inside = np.array([fnmatchcase(name, limit["layers"][0]) for name in layers])
        values = np.ones((len(layers), len(formats)))
        if "table" in limit:
            values = np.array(tables[limit["table"]]["values"], dtype=float)
        else:
            values = values * np.array([name in limit["formats"] for name in formats])
        amounts[limit["name"]] = (values[rows, plans] * inside).sum(axis=1)
    return Plans(
        np.array(costs),
        amounts,
        {limit["name"]: limit.get("min", -np.inf) for limit in request["limits"]},
        {limit["name"]: limit.get("max", np.inf) for limit in request["limits"]},
    )


def draw(rng: np.random.Generator) -> tuple[Document, Document]:
    """Two blocks of up to three layers; rows over one block, or over all."""
    sizes = rng.integers(1, 4, 2)
    names = [f"block.{block}.{at}" for block in (0, 1) for at in range(sizes[block])]
    shape = (len(names), 3)
    profile: Document = {
        "formats": {f"f{at}": {"weight_bits": 2 + at} for at in range(3)},
        "layers": [{"name": name} for name in names],
        "costs": {
            "loss": {"values": rng.integers(-3, 6, shape).tolist()},
            "other": {"values": rng.integers(0, 3, shape).tolist()},
        },
        "resources": {name: {"values": rng.integers(0, 7, shape).tolist()} for name in "ab"},
    }
    limits = []
    for at in range(int(rng.integers(1, 5))):
        row: Document = {"name": f"row{at}", "layers": [str(rng.choice(["block.0.*", "block.1.*", "*"]))]}
        if rng.random() < 0.7:
            row["table"] = str(rng.choice(["a", "b"]))
        else:
            row["formats"] = ["f0"]
        most = 4 if "table" not in row else 7 * len(names)
        low = int(rng.integers(0, most + 1))
        kind = rng.choice(["max", "min", "band", "equal"])
        row |= {"max": low} if kind == "max" else {"min": low}
        row |= {"max": low + int(rng.integers(0, 4))} if kind == "band" else {}
        row |= {"max": low} if kind == "equal" else {}
        limits.append(row)
    objective = ["loss", "other"] if rng.random() < 0.4 else ["loss"]
    return profile, {"objective": objective, "limits": limits}


def best_of(plans: Plans, kept: np.ndarray) -> tuple[np.ndarray, list[float]]:
    best = []
    for cost in plans.costs:
        best.append(float(cost[kept].min()))
        kept = kept & (cost == best[-1])
    return kept, best


@pytest.mark.parametrize("chunk", range(8))
@pytest.mark.thorough
def test_agrees_with_the_list_of_all_plans(chunk: int) -> None:
    rng = np.random.default_rng(chunk)
    seen = set()
    for trial in range(60):
        profile, request = draw(rng)
        plans, answer = all_plans(profile, request), solve(profile, **request)
        kept = plans.keeping()
        seen.add(answer.status)
        if not kept.any():
            assert answer.status is Status.INFEASIBLE, trial
            _check_reach(plans, answer)
            continue
        assert answer.status is Status.OPTIMAL, trial
        best, objectives = best_of(plans, kept)
        assert [answer.objective, *answer.then.values()] == objectives, trial
        assert [level.bound for level in answer.levels] == (objectives if len(objectives) > 1 else []), trial
        assert answer.left_out == ()
        if answer.tie_break is not None:
            _check_least_spend(plans, best, answer, request)
    assert seen == {Status.OPTIMAL, Status.INFEASIBLE}


def _check_least_spend(plans: Plans, best: np.ndarray, answer: Allocation, request: Document) -> None:
    # Of the best plans the one that spends least of the first row, then of the second, and so on.
    for limit in request["limits"]:
        least = plans.amounts[limit["name"]][best].min()
        assert answer.usage[limit["name"]].used == least
        best = best & (plans.amounts[limit["name"]] == least)


def _check_reach(plans: Plans, answer: Allocation) -> None:
    for name, reach in answer.achievable.items():
        assert reach.bounds == ()
        reached = plans.amounts[name][plans.keeping(without=name)]
        if reached.size == 0:
            assert reach.least_with_others is reach.nearest_above is reach.nearest_below is None
            continue
        assert (reach.least_with_others, reach.most_with_others) == (reached.min(), reached.max())
        above = reached[reached > plans.high[name]]
        below = reached[reached < plans.low[name]]
        assert reach.nearest_above == (above.min() if above.size else None)
        assert reach.nearest_below == (below.max() if below.size else None)


@pytest.mark.thorough
def test_a_limit_that_gives_way_as_explained_makes_a_plan_possible() -> None:
    rng = np.random.default_rng(99)
    tried = 0
    while tried < 40:
        profile, request = draw(rng)
        if all_plans(profile, request).keeping().any():
            continue
        conflict = explain(profile, **request).conflict
        assert conflict is not None
        for name, reach in conflict.relaxations.items():
            for field, amount in (("max", reach.nearest_above), ("min", reach.nearest_below)):
                if amount is None:
                    continue
                relaxed = [
                    limit | {field: amount} if limit["name"] == name else limit for limit in request["limits"]
                ]
                answer = solve(profile, objective=request["objective"], limits=relaxed)
                assert answer.status is Status.OPTIMAL
                assert answer.usage[name].used == amount
                tried += 1


@pytest.mark.parametrize("solver", ["highs", "cpsat", "greedy", "uniform", "convex"])
@pytest.mark.thorough
def test_every_solver_takes_the_same_requests(solver: str) -> None:
    rng = np.random.default_rng(7)
    for trial in range(40):
        profile, request = draw(rng)
        plans, answer = all_plans(profile, request), solve(profile, **request, solver=solver)
        kept = plans.keeping()
        if answer.assignment is None:
            assert answer.status is not Status.OPTIMAL
            assert solver in {"greedy", "uniform", "convex"} or not kept.any(), trial
            continue
        best, objectives = best_of(plans, kept)
        assert best.any()
        assert answer.objective is not None
        assert answer.bound is None or answer.bound <= objectives[0] + 1e-9
        assert answer.objective >= objectives[0] - 1e-9
        if answer.status is Status.OPTIMAL:
            assert [answer.objective, *answer.then.values()] == pytest.approx(objectives), trial


def large(layers: int, seed: int = 0) -> Document:
    rng = np.random.default_rng(seed)
    cost = rng.integers(100, 9999, (layers, 4))
    tables = {name: {"values": (cost + rng.integers(0, 99, cost.shape)).tolist()} for name in "ab"}
    return {
        "formats": {f"f{at}": {"weight_bits": 2 + at} for at in range(4)},
        "layers": [{"name": f"block.{at % 4}.{at}"} for at in range(layers)],
        "costs": {
            "loss": {"values": (10_000 - cost).tolist()},
            "other": {"values": rng.integers(0, 9999, cost.shape).tolist()},
        },
        "resources": tables,
    }


@pytest.mark.parametrize("solver", ["exact", "highs", "greedy", "uniform", "convex"])
@pytest.mark.thorough
def test_a_time_limit_never_costs_the_plan_and_claims_no_more_than_is_proved(solver: str) -> None:
    profile = large(200)
    limits = [
        {
            "name": f"{table}{block}",
            "table": table,
            "layers": [f"block.{block}.*"],
            "max": 200_000,
            "min": 1000,
        }
        for table in "ab"
        for block in range(4)
    ]
    best = solve(profile, objective="loss", limits=limits, time_limit_s=30.0)
    assert best.objective is not None
    assert best.bound is not None
    start = time.monotonic()
    answer = solve(profile, objective="loss", limits=limits, solver=solver, time_limit_s=0.7)
    assert time.monotonic() - start < 5.0
    assert answer.assignment is not None or solver not in {"exact", "greedy"}
    assert answer.bound is None or answer.bound <= best.objective + 1e-6
    assert set(answer.left_out) <= {"shadow_prices"}
    prices = [usage.shadow_price for usage in answer.usage.values()]
    assert ("shadow_prices" in answer.left_out) == (bool(prices) and all(price is None for price in prices))


def test_a_later_objective_that_is_not_proved_is_not_optimal() -> None:
    profile = large(120, seed=1)
    for table in profile["costs"].values():
        table["values"] = (np.array(table["values"]) // 500).tolist()
    asked: Document = {"objective": ["loss", "other"], "budgets": {"a": 560_000, "b": 561_000}}
    answer = solve(profile, **asked, time_limit_s=1.0)
    assert answer.objective is not None
    assert [level.name for level in answer.levels] == ["loss", "other"]
    statuses = [level.status for level in answer.levels]
    assert (answer.status is Status.OPTIMAL) == (set(statuses) == {Status.OPTIMAL})
    for level in answer.levels:
        assert level.bound is None or level.bound <= level.objective
        assert (level.gap == 0) == (level.status is Status.OPTIMAL) or level.status is Status.FEASIBLE
    assert answer.tie_break is None or answer.status is Status.OPTIMAL


def peaked(most_heat: float, most_bytes: float) -> Document:
    """One layer, where little heat takes many bytes."""
    return {
        "profile": {
            "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
            "layers": [{"name": "fc"}, {"name": "head"}],
            "costs": {"loss": {"values": [[1, 0], [1, 0]]}},
            "resources": {
                "heat": {"values": [[9, 3], [9, 3]], "combine": "max"},
                "bytes": {"values": [[50, 100], [50, 100]]},
            },
        },
        "budgets": {"heat": most_heat, "bytes": most_bytes},
    }


@pytest.mark.parametrize(("most_bytes", "helps"), [(200, True), (120, False)])
def test_a_peak_is_said_to_be_enough_only_where_the_sums_can_be_kept_with_it(
    most_bytes: float, helps: bool
) -> None:
    asked = peaked(2, most_bytes)
    why = explain(asked["profile"], budgets=asked["budgets"])
    assert why.allocation.status is Status.INFEASIBLE
    assert why.conflict is not None
    assert ("heat" in why.conflict.relaxations) is helps
    if helps:
        amount = why.conflict.relaxations["heat"].nearest_above
        assert amount == 3
        assert solve(asked["profile"], budgets=asked["budgets"] | {"heat": amount}).status is Status.OPTIMAL


def test_amounts_are_marked_as_bounds_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = {
        "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        "layers": [{"name": "fc"}, {"name": "head"}],
        "costs": {"loss": {"values": [[1, 0], [1, 0]]}},
        "resources": {"bytes": {"values": [[50, 100], [50, 100]]}, "heat": {"values": [[9, 3], [9, 3]]}},
    }
    monkeypatch.setattr(Deadline, "passed", lambda _: True)
    answer = solve(profile, budgets={"bytes": 99, "heat": 6}, time_limit_s=1.0)
    assert answer.status is Status.INFEASIBLE
    reach = answer.achievable["bytes"]
    assert set(reach.bounds) == {"least_with_others", "most_with_others", "nearest_above"}
    assert (reach.least_with_others, reach.most_with_others) == (100, 200)  # with all else kept it is 200


@pytest.mark.parametrize("limits", [2, 10])
def test_auto_has_a_plan_and_a_bound_however_short_the_time(limits: int) -> None:
    profile = large(150, seed=3)
    rng = np.random.default_rng(limits)
    cost = np.array(profile["costs"]["loss"]["values"])
    for at in range(limits):
        values = 10_000 - cost + rng.integers(0, 999, cost.shape)
        profile["resources"][f"r{at}"] = {"values": values.tolist()}
    budgets = {f"r{at}": 150 * 5_500 for at in range(limits)}
    answer = solve(profile, objective="loss", budgets=budgets, time_limit_s=0.5)
    assert answer.assignment is not None
    assert answer.gap is not None
    assert answer.gap < 0.2


def test_an_explanation_names_what_no_time_was_left_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline, "passed", lambda _: True)
    asked = peaked(9, 150)
    why = explain(asked["profile"], budgets=asked["budgets"], resamples=3, time_limit_s=1.0)
    assert why.allocation.assignment is not None
    assert {"baselines.uniform", "baselines.greedy", "stability"} <= set(why.left_out)
    assert why.baselines == {}
    assert why.stability is None
