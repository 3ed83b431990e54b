"""Trade-offs: supported plans against brute force, exact ones between them, the knee, and what may be asked."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import (
    Frontier,
    InvalidInputError,
    Status,
    frontier,
    knee,
    plan_after,
    solve,
    steps_within,
    surface,
)
from tests.allocator.knapsack.test_joint_options import QKV, attention
from tests.allocator.profiles import profile_json, with_units


def random_document(seed: int, layers: int = 5, formats: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "formats": {f"f{at}": {"weight_bits": at + 1} for at in range(formats)},
        "layers": [{"name": f"layer{at}", "parameters": 8} for at in range(layers)],
        "costs": {"loss": {"values": rng.integers(0, 60, (layers, formats)).tolist()}},
        "resources": {
            name: {"values": rng.integers(0, 20, (layers, formats)).tolist(), "constant": 3} for name in "ab"
        },
    }


def all_plans(document: dict[str, Any], *names: str) -> np.ndarray:
    """(N, T) what every plan adds up to in each table, constants included."""
    tables = {**document["costs"], **document["resources"]}
    layers, formats = len(document["layers"]), len(document["formats"])
    plans = np.array(list(product(range(formats), repeat=layers)))
    totals = [
        np.array(tables[name]["values"])[np.arange(layers), plans].sum(axis=1)
        + tables[name].get("constant", 0)
        for name in names
    ]
    return np.stack(totals, axis=1)


def supported(points: np.ndarray) -> list[tuple[int, int]]:
    """Corners of the lower left hull of (spend, cost) pairs, by comparing slopes one by one."""
    best: dict[int, int] = {}
    for spend, cost in points.tolist():
        best[spend] = min(cost, best.get(spend, cost))
    front = [
        (spend, cost)
        for spend, cost in sorted(best.items())
        if all(other > cost for lower, other in best.items() if lower < spend)
    ]
    corners = front[:1]
    while corners[-1] != front[-1]:
        spend, cost = corners[-1]
        ahead = [point for point in front if point[0] > spend]
        corners.append(max(ahead, key=lambda point: ((cost - point[1]) / (point[0] - spend), point[0])))
    return corners


@pytest.mark.parametrize("seed", range(30))
def test_every_corner_of_the_hull_is_passed_and_every_step_is_optimal_for_its_spend(seed: int) -> None:
    document = random_document(seed)
    front = frontier(document, "a")
    plans = all_plans(document, "a", "loss")
    corners = set(supported(plans))
    passed = list(zip(front.spend.tolist(), front.objective.tolist(), strict=True))
    assert corners <= set(passed)
    for spend, objective in passed:
        assert plans[plans[:, 0] <= spend][:, 1].min() == objective


@pytest.mark.parametrize("seed", range(10))
def test_the_changes_lead_to_the_plans_with_these_totals(seed: int) -> None:
    document = random_document(seed)
    front = frontier(document, "a")
    for steps in range(front.price.size + 1):
        plan = plan_after(front, steps)
        columns = [front.formats.index(plan[name]) for name in front.layers]
        for name, total in (("a", front.spend[steps]), ("loss", front.objective[steps])):
            table = {**document["costs"], **document["resources"]}[name]
            values = [row[column] for row, column in zip(table["values"], columns, strict=True)]
            assert sum(values) + table.get("constant", 0) == total


def test_prices_fall_and_are_what_each_step_buys() -> None:
    front = frontier(random_document(0, layers=30), "a")
    assert (np.diff(front.price) <= 0).all()
    assert front.price == pytest.approx(-np.diff(front.objective) / np.diff(front.spend))


def test_layers_of_a_unit_change_together() -> None:
    front = frontier(profile_json(layers=with_units("u", None, "u")), objective="kl")
    for steps in range(front.price.size + 1):
        plan = plan_after(front, steps)
        assert plan["block.0.up"] == plan["head"]


def test_fused_plans_are_on_the_frontier() -> None:
    front = frontier(attention(QKV), "latency_us", objective="kl")
    assert front.spend.tolist() == [17, 20]


def test_exact_points_lie_on_or_between_the_supported_ones() -> None:
    document = random_document(3)
    front = frontier(document, "a", points=9)
    plans = all_plans(document, "a", "loss")
    assert len(front.exact) == 9
    for answer in front.exact:
        limit = answer.usage["a"].limit
        assert limit is not None
        assert answer.status is Status.OPTIMAL
        assert answer.objective == plans[plans[:, 0] <= limit][:, 1].min()
    assert front.exact[0].usage["a"].used == front.spend[0]
    assert front.exact[-1].objective == front.objective[-1]


def test_exact_points_keep_other_budgets_which_supported_ones_cannot() -> None:
    document = random_document(4)
    front = frontier(document, "a", points=[30, 45, 60], budgets={"b": 40})
    plans = all_plans(document, "a", "b", "loss")
    for budget, answer in zip((30, 45, 60), front.exact, strict=True):
        within = plans[(plans[:, 0] <= budget) & (plans[:, 1] <= 40)]
        expected = None if not within.size else within[:, 2].min()
        assert answer.objective == expected
    with pytest.raises(InvalidInputError, match="/points: supported plans cannot keep other limits; ask for"):
        frontier(document, "a", budgets={"b": 40})


def test_effective_bits_are_a_resource() -> None:
    front = frontier(profile_json(), "effective_bits")
    assert (front.unit, front.spend[0], front.spend[-1]) == ("bit", 2, 8)
    assert steps_within(front, 1.9) is None
    assert steps_within(front, 8) == front.price.size


def test_tables_where_higher_is_better_rise() -> None:
    costs = {"sqnr": {"values": [[10, 20, 30]] * 3, "better": "higher"}}
    front = frontier(profile_json(costs=costs))
    assert front.maximise
    assert (np.diff(front.objective) > 0).all()


def test_fifty_thousand_layers_fit_in_a_few_megabytes() -> None:
    rng = np.random.default_rng(0)
    document = {
        "formats": {f"f{at}": {"weight_bits": at + 1} for at in range(4)},
        "layers": [{"name": str(at)} for at in range(50_000)],
        "costs": {"loss": {"values": (rng.random((50_000, 1)) * 4.0 ** -np.arange(4)).tolist()}},
        "resources": {"a": {"values": (rng.integers(1, 99, (50_000, 1)) * np.arange(1, 5)).tolist()}},
    }
    front = frontier(document, "a")
    assert front.price.size == 150_000
    assert sum(value.nbytes for value in vars(front).values() if isinstance(value, np.ndarray)) < 6e6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_the_knee_does_not_depend_on_units(falls: list[float], across: float, down: float) -> None:
    falls = sorted((round(fall, 3) for fall in falls), reverse=True)
    spend = np.arange(len(falls) + 1.0)
    cost = np.concatenate([[0.0], -np.cumsum(falls)])
    bend = np.abs((cost - cost[0]) / (cost[-1] or 1.0) - spend / spend[-1])
    found = knee(spend * across, cost * down)
    assert bend[found] == pytest.approx(bend.max() if cost[-1] else 0.0, abs=1e-9)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown resource": ({"resource": "bytes"}, "/resource: unknown budget 'bytes'"),
    "no points": ({"points": 0}, "/points: expected at least 1 point, got 0"),
    "an order": ({"objective": ["kl", "latency_us"]}, "/objective: a frontier has one objective"),
    "an amount without sense": ({"points": [100, "3 ms"]}, "/budgets/1/weight_bytes: '3 ms' is a time"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    fields, words = REFUSED[name]
    with pytest.raises(InvalidInputError, match=words):
        frontier(profile_json(), **fields)


def test_refuses_a_maximum_and_what_is_better_higher() -> None:
    peak = profile_json(resources={"peak": {"values": [[1, 2, 3]] * 3, "combine": "max"}})
    with pytest.raises(
        InvalidInputError, match="/resource: 'peak' combines by max; only sums have a frontier"
    ):
        frontier(peak, "peak")
    two = profile_json()["costs"] | {"sqnr": {"values": [[1, 2, 3]] * 3, "better": "higher"}}
    with pytest.raises(
        InvalidInputError, match="/resource: higher is better for 'sqnr'; make it the objective"
    ):
        frontier(profile_json(costs=two), "sqnr", objective="kl")


def test_a_budget_that_cannot_be_read_is_an_error() -> None:
    front: Frontier = frontier(profile_json())
    with pytest.raises(ValueError, match="unknown unit"):
        steps_within(front, "3 parsec")


@pytest.mark.parametrize("seed", range(5))
def test_a_surface_holds_what_nothing_beats(seed: int) -> None:
    document = random_document(seed, layers=4, formats=3)
    found = surface(document, ("a", "b"), points=(6, 5))
    plans = all_plans(document, "a", "b", "loss")
    points = [(p.usage["a"].used, p.usage["b"].used, p.objective) for p in found.points]
    assert len(set(points)) == len(points)
    for point in points:
        assert (plans == point).all(axis=1).any()
        assert not ((plans <= point).all(axis=1) & (plans < point).any(axis=1)).any()
    for a, b in found.impossible:
        assert not ((plans[:, 0] <= a) & (plans[:, 1] <= b)).any()
    assert found.unproved == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"resources": ("weight_bytes", "weight_bytes")}, "/resources: expected two different resources"),
        ({"points": (1, 5)}, "/points: expected at least 2 budgets on each axis"),
    ],
)
def test_refuses_surfaces(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        surface(profile_json(), **fields)


def test_sweeps_answer_like_single_solves() -> None:
    document = random_document(7)
    front = frontier(document, "a", points=[20, 40, 60])
    for budget, answer in zip((20, 40, 60), front.exact, strict=True):
        single = solve(document, budgets={"a": budget})
        assert (answer.assignment, answer.objective, answer.usage) == (
            single.assignment,
            single.objective,
            single.usage,
        )
