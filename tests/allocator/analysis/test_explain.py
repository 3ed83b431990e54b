"""Reasons for a plan, each against the list of all plans."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from allocator import Explanation, InvalidInputError, Status, explain, solve, stability
from tests.allocator.knapsack.test_joint_options import QKV, attention
from tests.allocator.profiles import profile_json, with_units
from tests.allocator.tradeoff.test_frontier import all_plans, random_document


def random_case(seed: int) -> tuple[dict[str, Any], dict[str, float]]:
    document = random_document(seed, layers=4, formats=3)
    plans = all_plans(document, "a", "b")
    budgets = {name: float(np.quantile(plans[:, at], 0.4)) for at, name in enumerate("ab")}
    return document, budgets if seed % 2 else {"a": budgets["a"]}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.thorough
def test_every_option_says_what_the_best_plan_with_it_would_cost(seed: int) -> None:
    document, budgets = random_case(seed)
    why = explain(document, ["*"], budgets=budgets)
    assert why.allocation.assignment is not None
    for reason in why.reasons:
        for option in reason.options:
            forced = solve(document, budgets=budgets, pin={reason.layer: option.format})
            assert option.chosen == (why.allocation.assignment[reason.layer] == option.format)
            if forced.status is Status.INFEASIBLE:
                assert (option.verdict, option.best_with) == ("impossible", None)
                continue
            assert option.best_with == pytest.approx(forced.objective)
            better = forced.objective == pytest.approx(why.allocation.objective)
            assert option.verdict == ("chosen" if option.chosen else "as good" if better else "worse")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.thorough
def test_reduced_costs_bound_what_an_option_costs(seed: int) -> None:
    document, budgets = random_case(seed)
    why = explain(document, ["*"], budgets=budgets)
    for reason in why.reasons:
        for option in reason.options:
            if option.best_with is not None:
                assert option.reduced_cost is not None
                assert option.reduced_cost >= 0
                table = document["costs"]["loss"]["values"][int(reason.layer.removeprefix("layer"))]
                assert option.objective == table[int(option.format.removeprefix("f"))]


@pytest.mark.parametrize("seed", range(20))
def test_the_next_moves_are_the_best_single_changes(seed: int) -> None:
    document = random_document(seed, layers=4, formats=3)
    budget = float(np.median(all_plans(document, "a")))
    why = explain(document, budgets={"a": budget})
    chosen = why.allocation.assignment or {}
    upgrades, downgrades = [], []
    for at, layer in enumerate(document["layers"]):
        row = {name: document["costs"]["loss"]["values"][at][k] for k, name in enumerate(document["formats"])}
        size = {
            name: document["resources"]["a"]["values"][at][k] for k, name in enumerate(document["formats"])
        }
        here = chosen[layer["name"]]
        for name in row:
            gain, more = row[here] - row[name], size[name] - size[here]
            if gain > 0 and more > 0:
                upgrades.append(gain / more)
            if more < 0:
                downgrades.append(-gain / -more)
    assert (why.next_upgrade.rate if why.next_upgrade else None) == pytest.approx(max(upgrades, default=None))
    assert (why.next_downgrade.rate if why.next_downgrade else None) == pytest.approx(
        min(downgrades, default=None)
    )


def test_moves_say_what_they_change() -> None:
    why = explain(profile_json(), budgets={"weight_bytes": 160, "latency_us": 45})
    assert why.next_upgrade is not None
    before = why.allocation.assignment or {}
    after = before | why.next_upgrade.changes
    table = profile_json()["resources"]["weight_bytes"]["values"]
    size = {
        name: {"int2": row[0], "int4": row[1], "int8": row[2]}
        for name, row in zip(before, table, strict=True)
    }
    spent = sum(size[name][after[name]] - size[name][before[name]] for name in before)
    assert why.next_upgrade.spend["weight_bytes"] == spent
    assert why.next_upgrade.objective < 0 < spent


def test_layers_of_a_unit_share_their_reasons() -> None:
    why = explain(profile_json(layers=with_units("u", None, "u")), ["head"], budgets={"weight_bytes": 160})
    (reason,) = why.reasons
    assert reason.together == ("block.0.up", "head")
    assert [option.spend["weight_bytes"] for option in reason.options] == [60, 120, 240]


def test_fused_layers_are_explained_format_by_format() -> None:
    why = explain(attention(QKV), ["q"], objective="kl", budgets={"latency_us": 20}, forbid={"v": ["int4"]})
    (reason,) = why.reasons
    assert reason.together == ("q", "k", "v")
    assert [option.verdict for option in reason.options] == ["beaten", "chosen"]


def test_formats_that_are_ruled_out_say_so() -> None:
    why = explain(profile_json(), ["head"], pin={"head": "int4"})
    assert [option.verdict for option in why.reasons[0].options] == ["ruled out", "chosen", "ruled out"]


def test_baselines_are_compared_at_the_same_budgets() -> None:
    why = explain(profile_json(), budgets={"weight_bytes": 170})
    uniform = solve(profile_json(), budgets={"weight_bytes": 170}, solver="uniform")
    assert why.baselines["uniform"].objective == uniform.objective
    assert uniform.objective is not None
    assert why.allocation.objective is not None
    worse = uniform.objective - why.allocation.objective
    assert why.baselines["uniform"].difference == pytest.approx(worse)
    assert why.baselines["uniform"].worse_by == pytest.approx(worse / why.allocation.objective)


@pytest.mark.parametrize("shift", [0.0, -10.0])
def test_baselines_of_objectives_at_or_below_zero_have_no_share(shift: float) -> None:
    costs = {"kl": {"values": [[3 + shift, 0 + shift]] * 2}}
    formats = {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}}
    bytes_ = {"weight_bytes": {"values": [[1, 2]] * 2, "unit": "byte"}}
    profile = profile_json(
        layers=[{"name": "a"}, {"name": "b"}], formats=formats, costs=costs, resources=bytes_
    )
    why = explain(profile, budgets={"weight_bytes": 4 if shift == 0 else 3})
    uniform = why.baselines["uniform"]
    assert uniform.worse_by is None
    assert uniform.difference == pytest.approx(0 if shift == 0 else 3)


def test_baselines_of_maximised_tables_are_worse_where_they_are_lower() -> None:
    costs = {"sqnr": {"values": [[10, 28, 30], [10, 11, 12], [1, 2, 9]], "better": "higher"}}
    why = explain(profile_json(costs=costs), budgets={"weight_bytes": 170})
    uniform = why.baselines["uniform"]
    assert uniform.objective is not None
    assert why.allocation.objective is not None
    assert uniform.difference == pytest.approx(why.allocation.objective - uniform.objective)
    assert uniform.difference > 0
    assert uniform.worse_by == pytest.approx(1 - uniform.objective / why.allocation.objective)


def test_maximised_tables_are_explained_in_their_own_direction() -> None:
    costs = {"sqnr": {"values": [[10, 20, 30]] * 3, "better": "higher"}}
    why = explain(profile_json(costs=costs), ["head"], budgets={"weight_bytes": 160})
    assert why.next_upgrade is not None
    assert why.next_upgrade.objective > 0
    assert [option.objective for option in why.reasons[0].options] == [10, 20, 30]
    best = [option.best_with for option in why.reasons[0].options if option.best_with is not None]
    assert max(best) == why.allocation.objective


def test_refuses_layers_that_do_not_exist() -> None:
    with pytest.raises(
        InvalidInputError, match=r"/layers/1: unknown layer or glob 'haed'; did you mean 'head'"
    ):
        explain(profile_json(), ["*.up", "haed"])


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "a pin and a budget": {
        "pin": {"head": "int8", "*.up": "int2"},
        "budgets": {"weight_bytes": 150, "latency_us": 100},
    },
    "two budgets": {"budgets": {"weight_bytes": 100, "kl": 1.0, "latency_us": 60}},
    "a demand and a budget": {
        "limits": [{"formats": ["int8"], "min": 2}, {"formats": ["int2"], "max": 3}],
        "budgets": {"weight_bytes": 150},
        "forbid": {"head": ["int2"]},
    },
}


def conflict(**fields: Any) -> Explanation:
    why = explain(profile_json(), objective="kl", **fields)
    assert why.allocation.status is Status.INFEASIBLE
    assert why.conflict is not None
    assert why.conflict.minimal
    return why


def without(fields: dict[str, Any], items: tuple[str, ...], kept: tuple[str, ...]) -> dict[str, Any]:
    """The request with only some of the items of a conflict, and nothing else."""
    del items
    smaller: dict[str, Any] = {"limits": []}
    for item in kept:
        _, field, key = item.split("/")
        if field == "limits":
            smaller["limits"].append(fields["limits"][int(key)])
        else:
            smaller.setdefault(field, {})[key] = fields[field][key]
    return smaller


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_conflict_is_one_and_every_part_of_it_is_needed(name: str) -> None:
    fields = IMPOSSIBLE[name]
    found = conflict(**fields).conflict
    assert found is not None
    together = found.together
    whole = solve(profile_json(), objective="kl", **without(fields, together, together))
    assert whole.status is Status.INFEASIBLE
    for kept in combinations(together, len(together) - 1):
        smaller = solve(profile_json(), objective="kl", **without(fields, together, kept))
        assert smaller.status is Status.OPTIMAL


def test_the_smallest_relaxation_comes_first_and_is_just_enough() -> None:
    fields = {"budgets": {"weight_bytes": 100, "kl": 1.0}}
    found = conflict(**fields).conflict
    assert found is not None
    changes = [
        (reach.least_with_others - reach.limit) / reach.least_with_others
        for reach in found.relaxations.values()
        if reach.limit is not None and reach.least_with_others is not None
    ]
    assert changes == sorted(changes)
    assert len(changes) == 2
    for name, reach in found.relaxations.items():
        enough = solve(
            profile_json(), objective="kl", budgets=fields["budgets"] | {name: reach.least_with_others}
        )
        assert enough.status is Status.OPTIMAL


def test_baselines_of_an_impossible_request_have_no_objective() -> None:
    assert conflict(budgets={"weight_bytes": 10}).baselines["greedy"].objective is None


def test_resamples_say_how_sure_the_plan_is() -> None:
    costs = {"kl": {"values": [[0.9, 0.3, 0.0]] * 3, "stderr": [[0.1, 0.1, 0.0]] * 3}}
    fields: dict[str, Any] = {"budgets": {"weight_bytes": 140}, "resamples": 20, "seed": 5}
    assert explain(profile_json(costs=costs), **fields).stability == stability(
        profile_json(costs=costs), **fields
    )
