"""Comparisons against brute force and rank correlations by their definition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from allocator import InvalidInputError, Profile, load_profile
from allocator.analysis.table_comparison import compare_tables

LAYERS, FORMATS = 5, 3
BITS = (2, 4, 8)


def profile_of(**costs: Any) -> Profile:
    layers = [{"name": f"layer{index}", "parameters": 100 + 10 * index} for index in range(LAYERS)]
    spent = [[layer["parameters"] * bits // 8 for bits in BITS] for layer in layers]  # type: ignore[operator]
    return load_profile(
        {
            "formats": {f"int{bits}": {"weight_bits": bits} for bits in BITS},
            "layers": layers,
            "costs": {
                name: table if isinstance(table, dict) else {"values": table} for name, table in costs.items()
            },
            "resources": {"weight_bytes": {"values": spent, "unit": "byte"}},
        }
    )


def random_table(seed: int) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    made: list[list[float]] = (rng.lognormal(size=(LAYERS, 1)) * 4.0 ** -np.array([1, 2, 4])).tolist()
    return made


def brute(profile: Profile, table: str, limit: float) -> tuple[int, ...]:
    """The best plan of all, by looking at every one."""
    costs, spent = profile.costs[table].values, profile.resources["weight_bytes"].values
    plans = [
        plan
        for plan in itertools.product(range(FORMATS), repeat=LAYERS)
        if sum(spent[row][column] or 0 for row, column in enumerate(plan)) <= limit
    ]
    return min(plans, key=lambda plan: sum(costs[row][column] or 0 for row, column in enumerate(plan)))


def test_plans_and_their_distance_are_those_of_brute_force() -> None:
    profile = profile_of(kl=random_table(0), trace=random_table(1), fisher=random_table(2))
    limits = [250.0, 320.0, 400.0]
    made = compare_tables(profile, reference="kl", budgets=[{"weight_bytes": limit} for limit in limits])
    assert [plan.table for plan in made.plans] == ["kl", "trace", "fisher"] * 3
    reference = np.array(profile.costs["kl"].values, dtype=float)
    rows = np.arange(LAYERS)
    for plan in made.plans:
        limit = float(plan.budgets["weight_bytes"])
        expected = reference[rows, brute(profile, plan.table, limit)].sum()
        least = reference[rows, brute(profile, "kl", limit)].sum()
        assert plan.reference_cost == pytest.approx(expected)
        assert plan.excess == pytest.approx(expected / least - 1, abs=1e-12)
        assert plan.proved
    assert any(plan.excess > 0 for plan in made.plans if plan.excess is not None)
    assert all(plan.excess == 0 for plan in made.plans if plan.table == "kl")


def tau_b(first: np.ndarray, second: np.ndarray) -> float:
    pairs = list(itertools.combinations(range(len(first)), 2))
    one = np.array([np.sign(first[i] - first[j]) for i, j in pairs])
    other = np.array([np.sign(second[i] - second[j]) for i, j in pairs])
    return float((one * other).sum() / np.sqrt(np.square(one).sum() * np.square(other).sum()))


def test_rank_agreement_is_that_of_the_definition() -> None:
    profile = profile_of(kl=random_table(0), trace=random_table(1))
    (made,) = compare_tables(profile, reference="kl", budgets=[]).agreements
    first, second = (np.array(profile.costs[name].values, dtype=float) for name in ("trace", "kl"))
    assert made.table == "trace"
    assert made.kendall == pytest.approx(tau_b(first.ravel(), second.ravel()))
    layers = [tau_b(first[:, column], second[:, column]) for column in range(FORMATS)]
    assert made.kendall_of_layers == pytest.approx(np.mean(layers))
    order = [item.ravel().argsort().argsort() for item in (first, second)]
    assert made.spearman == pytest.approx(np.corrcoef(*order)[0, 1])
    orders = [[item[:, column].argsort().argsort() for item in (first, second)] for column in range(FORMATS)]
    assert made.spearman_of_layers == pytest.approx(np.mean([np.corrcoef(*pair)[0, 1] for pair in orders]))


def test_a_table_to_maximise_agrees_where_its_order_is_the_opposite() -> None:
    table = random_table(0)
    upside_down = {"values": [[-value for value in row] for row in table], "better": "higher"}
    profile = profile_of(kl=table, snr=upside_down)
    made = compare_tables(profile, reference="kl", budgets=[{"weight_bytes": 320}])
    assert made.agreements[0].kendall == pytest.approx(1)
    assert [plan.excess for plan in made.plans] == [0, 0]
    turned = compare_tables(profile, reference="snr", budgets=[{"weight_bytes": 320}])
    assert turned.plans[0].excess is None  # costs below zero have no ratio
    assert turned.plans[0].assignment == made.plans[0].assignment


def test_a_reference_to_maximise_has_its_excess_the_other_way_round() -> None:
    good = {"values": [[5.0, 7.0, 9.0]] * LAYERS, "better": "higher"}
    bad = [[value, 1.0, 0.5 * value] for value in (1.0, 2.0, 3.0, 4.0, 5.0)]
    made = compare_tables(profile_of(snr=good, other=bad), reference="snr", budgets=[{"weight_bytes": 320}])
    assert made.plans[0].excess == 0
    assert made.plans[1].excess is not None
    assert made.plans[1].excess >= 0


def test_nulls_and_constants() -> None:
    table: list[list[float | None]] = [list(row) for row in random_table(0)]
    table[0][0] = None
    profile = profile_of(kl=random_table(0), holes=table, flat=[[1.0] * FORMATS] * LAYERS)
    made = compare_tables(profile, reference="kl", budgets=[])
    assert made.agreements[0].kendall == pytest.approx(1)
    assert made.agreements[1].kendall is None
    assert made.agreements[1].spearman_of_layers is None


def test_a_plan_that_the_reference_has_no_number_for_has_no_cost() -> None:
    table: list[list[float | None]] = [list(row) for row in random_table(0)]
    for row in table:
        row[0] = None
    # Eight bits for the first layer leave the others too little for four bits each.
    full = [[100.0, 50.0, 0.0]] + [[0.1, 0.09, 0.08]] * (LAYERS - 1)
    made = compare_tables(profile_of(kl=table, full=full), reference="kl", budgets=[{"weight_bytes": 310}])
    assert made.plans[0].excess == 0
    assert made.plans[1].assignment is not None
    assert "int2" in made.plans[1].assignment.values()
    assert made.plans[1].reference_cost is None
    assert made.plans[1].excess is None


def test_budgets_that_cannot_be_met_have_no_plan() -> None:
    profile = profile_of(kl=random_table(0), trace=random_table(1))
    made = compare_tables(profile, reference="kl", budgets=[{"weight_bytes": 1}])
    assert [(plan.assignment, plan.reference_cost, plan.excess, plan.proved) for plan in made.plans] == [
        (None, None, None, False)
    ] * 2


def test_tables_can_be_chosen() -> None:
    profile = profile_of(kl=random_table(0), trace=random_table(1), fisher=random_table(2))
    made = compare_tables(profile, reference="kl", budgets=[], tables=["fisher"])
    assert [item.table for item in made.agreements] == ["fisher"]


@pytest.mark.parametrize("names", [{"reference": "loss"}, {"reference": "kl", "tables": ["loss"]}])
def test_unknown_tables_are_refused_with_the_known_ones(names: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="/tables: unknown cost table 'loss'; known: 'kl'"):
        compare_tables(profile_of(kl=random_table(0)), budgets=[], **names)
