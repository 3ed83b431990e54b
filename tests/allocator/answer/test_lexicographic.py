"""Objectives in falling order of importance, and costs that count with their uncertainty."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from allocator import InvalidInputError, Status, certify, load_profile, make_request, solve
from tests.allocator.profiles import profile_json


def ranked(seed: int) -> tuple[dict[str, Any], float]:
    """A profile whose first cost has many ties, and a budget."""
    rng = np.random.default_rng(seed)
    tables = {name: {"values": rng.integers(0, 4, (3, 3)).tolist()} for name in ("first", "second")}
    return profile_json(costs=tables), float(rng.integers(90, 300))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("solver", ["exact", "highs", "pulp", "cpsat"])
@pytest.mark.thorough
def test_the_second_objective_decides_among_the_best_in_the_first(seed: int, solver: str) -> None:
    document, most = ranked(seed)
    order = ["second", "first", "weight_bytes"]
    tables = [{**document["costs"], **document["resources"]}[name]["values"] for name in order]
    plans = [
        tuple(sum(row[column] for row, column in zip(table, plan, strict=True)) for table in tables)
        for plan in product(range(3), repeat=3)
    ]
    best = min(plan for plan in plans if plan[2] <= most)
    found = solve(document, objective=order, budgets={"weight_bytes": most}, solver=solver)
    assert found.status is Status.OPTIMAL
    assert (found.objective, *found.then.values()) == best
    assert list(found.then) == ["first", "weight_bytes"]


def test_every_fault_of_an_order_is_pointed_at() -> None:
    with pytest.raises(InvalidInputError, match="/objective/1: unknown objective 'kll'"):
        solve(profile_json(), objective=["kl", "kll"])


def test_caution_counts_standard_errors_against_a_choice() -> None:
    noisy = profile_json(
        costs={
            "kl": {
                "values": [[0.95, 0.3, 0.0], [0.8, 0.2, 0.0], [2.0, 0.5, 0.1]],
                "stderr": [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
            }
        }
    )
    bold, careful = (solve(noisy, budgets={"weight_bytes": 140}, caution=z) for z in (0.0, 1.5))
    assert bold.assignment == {"block.0.up": "int4", "block.0.down": "int2", "head": "int4"}
    assert careful.assignment == {"block.0.up": "int2", "block.0.down": "int4", "head": "int4"}
    certificate = certify(
        load_profile(noisy),
        make_request({"budgets": {"weight_bytes": 140}, "caution": 1.5}),
        bold.assignment or {},
    )
    assert bold.objective == pytest.approx(0.3 + 0.8 + 0.5)
    assert certificate.objective == pytest.approx(0.3 + 0.8 + 1.5 * 2.0 + 0.5)


def test_caution_lowers_what_is_maximised() -> None:
    sure = {"values": [[10, 20, 30]] * 3, "stderr": [[1, 1, 1]] * 3, "better": "higher"}
    allocation = solve(profile_json(costs={"sqnr": sure}), caution=2.0)
    assert allocation.objective == 3 * (30 - 2)


def test_caution_is_a_number_of_at_least_zero() -> None:
    with pytest.raises(InvalidInputError, match=r"/caution: .*greater than or equal to 0"):
        solve(profile_json(), caution=-1.0)
