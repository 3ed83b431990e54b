from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from allocator import Status, continuous_plan
from tests.allocator.profiles import profile_json, with_units


def lawful_json(**changes: Any) -> dict[str, Any]:
    scales = (1.0, 16.0, 256.0)
    values = [[scale * 4.0**-bits for bits in (2, 4, 8)] for scale in scales]
    return profile_json(costs={"mse": {"values": values}}, **changes)


def test_reports_bits_plan_and_optimum() -> None:
    found = continuous_plan(lawful_json(), budgets={"effective_bits": 5})
    assert found.theta == pytest.approx(2)
    # One bit of the head costs two of the others', so that it gets half a bit less than its cost alone would say.
    up, down, head = (found.bits[name] for name in ("block.0.up", "block.0.down", "head"))
    assert (down - up, head - down) == pytest.approx((2.0, 1.5))
    assert (up + down + 2 * head) / 4 == pytest.approx(5)
    assert found.value == pytest.approx(found.lower_bound, rel=1e-9)
    assert found.plan.solver.name == "convex"
    assert found.optimum.status is Status.OPTIMAL
    assert found.lower_bound is not None
    assert found.plan.objective is not None
    assert found.optimum.objective is not None
    assert found.lower_bound <= found.optimum.objective <= found.plan.objective
    expected = (found.plan.objective - found.optimum.objective) / found.plan.objective
    assert found.gap == pytest.approx(expected)


def test_layers_of_a_unit_share_their_bits() -> None:
    found = continuous_plan(lawful_json(layers=with_units("u", None, "u")), budgets={"effective_bits": 4})
    assert found.bits["block.0.up"] == found.bits["head"] != found.bits["block.0.down"]


def test_a_measured_table_has_no_continuous_lower_bound() -> None:
    found = continuous_plan(profile_json(), budgets={"effective_bits": 4, "latency_us": 33})
    assert found.lower_bound is None
    assert found.value is not None
    assert found.plan.bound is not None
    assert set(found.bits) == {"block.0.up", "block.0.down", "head"}


def test_a_maximised_table_has_no_law_but_a_plan() -> None:
    costs = {"sqnr": {"values": [[10, 20, 30]] * 3, "better": "higher"}}
    found = continuous_plan(profile_json(costs=costs), budgets={"effective_bits": 4})
    assert (found.theta, found.bits) == (None, {})
    assert found.plan.assignment is not None
    assert found.gap is not None


def test_an_infeasible_request_is_an_answer() -> None:
    found = continuous_plan(lawful_json(), budgets={"effective_bits": 1})
    assert found.plan.status is found.optimum.status is Status.INFEASIBLE
    assert (found.theta, found.bits, found.value, found.lower_bound, found.gap) == (
        None,
        {},
        None,
        None,
        None,
    )


def test_published_tables_round_to_within_a_tenth_of_a_percent(published: Callable[[str], Any]) -> None:
    case = published("qpalette_llama31_8b.json")
    for request in case["requests"]:
        found = continuous_plan(case["profile"], objective=request["objective"], budgets=request["budgets"])
        assert found.gap is not None
        assert 0 <= found.gap <= 1e-3
        assert len(found.bits) == 224
