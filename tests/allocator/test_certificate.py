"""The certificate is what everyone relies on, so it is fed corrupted plans to see it refuse them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from allocator import Request, certify, load_profile, solve, total
from tests.allocator.profiles import profile_json, with_units

BUDGETS = {"weight_bytes": 160, "latency_us": "40 us"}


def check(
    assignment: dict[str, str], profile: dict[str, Any] | None = None, **fields: Any
) -> tuple[str, ...]:
    return certify(load_profile(profile or profile_json()), Request(**fields), assignment).violations


def valid() -> dict[str, str]:
    assignment = solve(profile_json(), budgets=BUDGETS).assignment
    assert assignment is not None
    return dict(assignment)


def test_a_valid_plan_has_no_violations_and_the_sums_of_the_tables() -> None:
    certificate = certify(load_profile(profile_json()), Request(budgets=BUDGETS), valid())
    assert certificate.violations == ()
    assert certificate.objective == pytest.approx(0.3 + 0.2 + 0.5)
    assert certificate.used == {"weight_bytes": 160, "latency_us": 31}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head": "int8"}, "weight_bytes: 240 byte is above the most allowed, 160 byte"),
        ({"head": "int5"}, "head: 'int5' is not a format of the profile"),
        ({"tail": "int4"}, "tail: not a layer of the profile"),
    ],
)
def test_sees_a_corrupted_plan(change: dict[str, str], words: str) -> None:
    assert words in check(valid() | change, budgets=BUDGETS)


def test_sees_a_missing_layer() -> None:
    plan = valid()
    del plan["head"]
    assert check(plan, budgets=BUDGETS) == ("head: no format assigned",)
    assert math.isnan(certify(load_profile(profile_json()), Request(), plan).objective)


def test_sees_one_byte_too_many() -> None:
    assert check(valid(), budgets={"weight_bytes": 160}) == ()
    assert check(valid(), budgets={"weight_bytes": 159}) == (
        "weight_bytes: 160 byte is above the most allowed, 159 byte",
    )


def test_sees_a_split_unit() -> None:
    profile = profile_json(layers=with_units("u", None, "u"))
    assert check({"block.0.up": "int2", "block.0.down": "int2", "head": "int4"}, profile) == (
        "head: differs from 'block.0.up', which is of the same unit 'u'",
    )


def test_sees_broken_pins_allow_and_forbid_lists() -> None:
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int4")
    assert check(plan, pin={"head": "int8"}) == ("head: 'int4' breaks the rule for 'head'",)
    assert check(plan, allow={"*.up": ["int2"]}) == ("block.0.up: 'int4' breaks the rule for '*.up'",)
    assert check(plan, forbid={"*.down": ["int4"]}) == ("block.0.down: 'int4' breaks the rule for '*.down'",)


def test_sees_a_format_without_a_value() -> None:
    costs = {"kl": {"values": [[0.9, None, 0.0], [0.8, 0.2, 0.0], [2.0, 0.5, 0.1]]}}
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int4")
    assert check(plan, profile_json(costs=costs)) == ("block.0.up: table 'kl' has no value for its format",)


def test_sees_a_demand_that_is_not_reached() -> None:
    costs = {"sqnr": {"values": [[10, 20, 30]] * 3, "better": "higher"}}
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int4")
    assert check(plan, profile_json(costs=costs), budgets={"sqnr": 61}) == (
        "sqnr: 60 is below the least allowed, 61",
    )


def test_integers_beyond_doubles_are_added_exactly() -> None:
    huge = {"weight_bytes": {"values": [[2**53, 1, 1]] * 3, "unit": "byte", "constant": 1}}
    profile = load_profile(profile_json(resources=huge))
    assert (
        total(profile, "weight_bytes", dict.fromkeys(("block.0.up", "block.0.down", "head"), "int2"))
        == 3 * 2**53
    )


def test_decimals_are_rounded_once() -> None:
    mixed = {"kl": {"values": [[1e16, 1, 1], [0.5, 1, 1], [-1e16, 1, 1]]}}
    profile = load_profile(profile_json(costs=mixed))
    plan = dict.fromkeys(("block.0.up", "block.0.down", "head"), "int2")
    assert 1e16 + 0.5 - 1e16 == 0
    assert total(profile, "kl", plan) == 0.5
