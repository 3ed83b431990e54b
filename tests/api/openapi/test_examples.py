"""The examples of the OpenAPI document are true."""

from __future__ import annotations

import pytest

from allocator import Status, load_profile, solve
from api.openapi.examples import ALLOCATIONS, TINY_PROFILE


def test_the_tiny_profile_keeps_the_contract() -> None:
    profile = load_profile(TINY_PROFILE)
    assert [layer.name for layer in profile.layers] == ["up", "down"]


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_every_example_has_an_optimal_plan_within_its_budgets(name: str) -> None:
    example = ALLOCATIONS[name]
    assert example["summary"]
    plan = solve(**example["value"])
    assert plan.status is Status.OPTIMAL
    assert plan.usage
    assert all(usage.slack >= 0 for usage in plan.usage.values())


def test_the_pin_of_an_example_shows_in_its_plan() -> None:
    example = ALLOCATIONS["bytes and a pin"]["value"]
    assert solve(**example).assignment == {"up": "int4-g64", "down": "int8-g64"}
    without = {key: value for key, value in example.items() if key != "pin"}
    assert solve(**without).assignment == {"up": "int8-g64", "down": "int4-g64"}
