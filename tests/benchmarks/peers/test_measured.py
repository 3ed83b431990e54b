"""Ours is planned for exactly the bytes of the peer's plan, from the same formats."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from allocator import CostTable, Format, Layer, Profile, ResourceTable
from allocator.answer.certificate import total
from benchmarks.peers.measured import Subject, rivals, rows
from benchmarks.peers.question import Answer, Plan, Question

_FORMATS = ("int2", "int4", "int8")
_LAYERS = ("a", "b", "c", "d")


def _profile() -> Profile:
    random = np.random.default_rng(0)
    sizes = random.integers(100, 400, 4)
    costs = random.random((4, 1)) / np.array([2.0, 8.0, 100.0])
    return Profile(
        formats={name: Format(weight_bits=float(name[3:])) for name in _FORMATS},
        layers=tuple(
            Layer(name=name, parameters=int(size)) for name, size in zip(_LAYERS, sizes, strict=True)
        ),
        costs={"embedding_distance": CostTable(values=tuple(map(tuple, costs.tolist())))},
        resources={
            "weight_bytes": ResourceTable(
                values=tuple(tuple(float(size * bits) for bits in (2, 4, 8)) for size in sizes), unit="byte"
            )
        },
    )


def _best(profile: Profile, table: dict[str, dict[str, float]], budget: float) -> float:
    plans = (
        dict(zip(_LAYERS, names, strict=True)) for names in itertools.product(("int4", "int8"), repeat=4)
    )
    return min(
        sum(table[layer][name] for layer, name in plan.items())
        for plan in plans
        if total(profile, "weight_bytes", plan) <= budget
    )


def _table(profile: Profile) -> dict[str, dict[str, float]]:
    values = profile.costs["embedding_distance"].values
    return {
        layer: {name: float(cost or 0) for name, cost in zip(_FORMATS, row, strict=True)}
        for layer, row in zip(_LAYERS, values, strict=True)
    }


@pytest.mark.parametrize("theirs", list(itertools.product(("int4", "int8"), repeat=4)))
def test_ours_is_the_best_sum_in_the_peers_bytes_and_formats(theirs: tuple[str, ...]) -> None:
    profile = _profile()
    plan = dict(zip(_LAYERS, theirs, strict=True))
    random = np.random.default_rng(1)
    scores = {layer: {"int4": float(random.random()), "int8": 0.0} for layer in _LAYERS}
    table = _table(profile)

    def measure(plan: Plan) -> float:
        return sum(table[layer][name] for layer, name in plan.items())

    budget, found = rivals(profile, ("int4", "int8"), plan, scores, measure, evaluations=4)
    assert budget == total(profile, "weight_bytes", plan)
    assert found["peer"] == plan
    for planner, costs in {
        "ours, one shot": table,
        "ours, refine": table,
        "peer's scores, our solver": scores,
    }.items():
        chosen = found[planner]
        assert set(chosen.values()) <= {"int4", "int8"}
        assert total(profile, "weight_bytes", chosen) <= budget
        reached = sum(costs[layer][name] for layer, name in chosen.items())
        assert reached == pytest.approx(_best(profile, costs, budget), rel=1e-12)


def test_rows_hold_what_each_planner_measures() -> None:
    profile = _profile()
    table = _table(profile)

    def seen(plan: Plan) -> float:
        return sum(table[layer][name] for layer, name in plan.items())

    subject = Subject(profile, (), seen, lambda plan: 2 * seen(plan))
    question = Question(("int4", "int8"), (4.0, 8.0), _LAYERS)
    plans = [dict.fromkeys(_LAYERS, "int4"), dict.fromkeys(_LAYERS, "int8")]
    found = list(rows("tool", question, Answer({"method": plans}), subject, evaluations=0))
    assert [row.asked for row in found] == [4.0, 8.0]
    for row, plan in zip(found, plans, strict=True):
        assert row.budget_bytes == total(profile, "weight_bytes", plan)
        assert row.seen == {
            "peer": seen(plan),
            "ours, one shot": seen(plan),
        }  # the only plan in so few bytes, and the best
        assert row.held_out == {planner: 2 * value for planner, value in row.seen.items()}
