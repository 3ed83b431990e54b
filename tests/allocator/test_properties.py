"""What must hold for every problem, whatever the solver: found by hypothesis, shrunk when broken."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import Allocation, solve

COSTS = st.one_of(st.integers(-3, 9), st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 6)))


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    layers, formats = draw(st.integers(1, 6)), draw(st.integers(1, 4))

    def table(values: st.SearchStrategy[float]) -> list[list[float]]:
        row = st.lists(values, min_size=formats, max_size=formats)
        return draw(st.lists(row, min_size=layers, max_size=layers))

    return {
        "formats": {f"f{index}": {"weight_bits": index + 1} for index in range(formats)},
        "layers": [{"name": f"layer{index}", "parameters": 10} for index in range(layers)],
        "costs": {"cost": {"values": table(COSTS)}},
        "resources": {
            "size": {"values": table(st.integers(0, 9))},
            "time": {"values": table(st.integers(0, 9))},
        },
    }


def limits(profile: dict[str, Any], share: float, *names: str) -> dict[str, float]:
    tables = {name: np.array(profile["resources"][name]["values"]) for name in names}
    return {
        name: float(np.floor(values.min(axis=1).sum() + share * np.ptp(values, axis=1).sum()))
        for name, values in tables.items()
    }


def objective(allocation: Allocation) -> float:
    return float("inf") if allocation.objective is None else allocation.objective


@given(profiles(), st.floats(0, 1), st.integers(0, 5))
def test_more_budget_is_never_worse(profile: dict[str, Any], share: float, more: int) -> None:
    budgets = limits(profile, share, "size")
    wider = {name: value + more for name, value in budgets.items()}
    assert objective(solve(profile, budgets=wider)) <= objective(solve(profile, budgets=budgets)) + 1e-9


@given(profiles(), st.floats(0, 1), st.randoms(use_true_random=False))
def test_permuting_layers_permutes_the_answer(profile: dict[str, Any], share: float, random: Any) -> None:
    order = list(range(len(profile["layers"])))
    random.shuffle(order)
    moved = profile | {
        "layers": [profile["layers"][index] for index in order],
        "costs": {"cost": {"values": [profile["costs"]["cost"]["values"][index] for index in order]}},
        "resources": {
            name: {"values": [table["values"][index] for index in order]}
            for name, table in profile["resources"].items()
        },
    }
    budgets = limits(profile, share, "size")
    before, after = solve(profile, budgets=budgets), solve(moved, budgets=budgets)
    assert objective(after) == before.objective or abs(objective(after) - objective(before)) < 1e-9


@given(profiles(), st.floats(0, 1), st.sampled_from([1e-12, 2.0**-60, 3e-6, 1 / 3, 7.0, 2.0**40, 1e9]))
def test_scaling_a_cost_table_changes_no_objective(
    profile: dict[str, Any], share: float, factor: float
) -> None:
    budgets = limits(profile, share, "size")
    scaled = [[value * factor for value in row] for row in profile["costs"]["cost"]["values"]]
    before = solve(profile, budgets=budgets)
    after = solve(profile | {"costs": {"cost": {"values": scaled}}}, budgets=budgets)
    assert abs(objective(after) / factor - objective(before)) < 1e-9
    if float(np.log2(factor)).is_integer():  # nothing is rounded, so that ties stay ties
        assert after.assignment == before.assignment


@given(profiles(), st.floats(0, 1), st.data())
def test_forbidding_what_was_not_chosen_changes_nothing(
    profile: dict[str, Any], share: float, data: Any
) -> None:
    budgets = limits(profile, share, "size")
    free = solve(profile, budgets=budgets)
    assert free.assignment is not None
    layer = data.draw(st.sampled_from(sorted(free.assignment)))
    others = [name for name in profile["formats"] if name != free.assignment[layer]]
    restricted = solve(profile, budgets=budgets, forbid={layer: others} if others else {})
    assert abs(objective(restricted) - objective(free)) < 1e-9


@settings(max_examples=50)
@given(profiles(), st.floats(0, 1))
def test_a_second_budget_never_helps(profile: dict[str, Any], share: float) -> None:
    one = solve(profile, budgets=limits(profile, share, "size"))
    both = solve(profile, budgets=limits(profile, share, "size", "time"))
    assert objective(both) >= objective(one) - 1e-9


@settings(max_examples=50)
@given(profiles(), st.floats(0, 1))
def test_baselines_are_never_better_than_the_optimum(profile: dict[str, Any], share: float) -> None:
    budgets = limits(profile, share, "size")
    best = solve(profile, budgets=budgets)
    for solver in ("greedy", "uniform", "convex"):
        assert objective(solve(profile, budgets=budgets, solver=solver)) >= objective(best) - 1e-9
