from __future__ import annotations

from typing import Any

import pytest

from allocator import InvalidInputError, solve
from tests.allocator.profiles import profile_json, with_units


def plan(**fields: Any) -> dict[str, str]:
    profile = fields.pop("profile", profile_json())
    assignment = solve(profile, **fields).assignment
    assert assignment is not None
    return assignment


def test_a_pin_decides_its_layers_and_nothing_else() -> None:
    free = plan(budgets={"weight_bytes": 160})
    pinned = plan(budgets={"weight_bytes": 160}, pin={"head": free["head"]})
    assert pinned == free
    moved = plan(pin={"block.*": "int2"})
    assert moved == {"block.0.up": "int2", "block.0.down": "int2", "head": "int8"}


def test_allow_lists_and_forbid_lists_restrict_only_what_they_name() -> None:
    assert plan(allow={"head": ["int2", "int4"]}) == {
        "block.0.up": "int8",
        "block.0.down": "int8",
        "head": "int4",
    }
    assert plan(forbid={"*.up": ["int8"]}) == {"block.0.up": "int4", "block.0.down": "int8", "head": "int8"}


def test_nulls_in_the_objective_are_not_available() -> None:
    costs = {"kl": {"values": [[0.9, 0.3, None], [0.8, 0.2, 0.0], [2.0, 0.5, 0.1]]}}
    assert plan(profile=profile_json(costs=costs))["block.0.up"] == "int4"


def test_nulls_in_a_table_out_of_play_do_not_matter() -> None:
    other = profile_json()["resources"] | {"other": {"values": [[None] * 3] * 3}}
    assert plan(profile=profile_json(resources=other)) == plan()


def test_layers_of_one_unit_share_a_format() -> None:
    profile = profile_json(layers=with_units("qkv", None, "qkv"))
    assignment = plan(profile=profile, budgets={"weight_bytes": 200})
    assert assignment["block.0.up"] == assignment["head"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown layer": (
        {"pin": {"heed": "int4"}},
        "/pin/heed: unknown layer or glob 'heed'; did you mean 'head'",
    ),
    "unknown format": ({"allow": {"head": ["int5"]}}, "/allow/head: unknown format 'int5'; did you mean"),
    "pin outside the allowed": (
        {"pin": {"head": "int8"}, "forbid": {"head": ["int8"]}},
        "/layers/2: 'head' has no format left: pin, allow and forbid together leave none",
    ),
    "contradictory pins": (
        {"pin": {"head": "int8", "he*": "int4"}},
        r"/pin/he\*: pins 'head' to 'int4', but 'head' pins it to 'int8'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    fields, words = REFUSED[name]
    with pytest.raises(InvalidInputError, match=words):
        solve(profile_json(), **fields)


def test_says_when_the_tables_leave_a_layer_without_a_format() -> None:
    costs = {"kl": {"values": [[0.9, 0.3, 0.0], [None, None, None], [2.0, 0.5, 0.1]]}}
    with pytest.raises(
        InvalidInputError, match=r"/layers/1: 'block\.0\.down' has no format left: nulls in the tables"
    ):
        solve(profile_json(costs=costs))


def test_says_which_layers_of_a_unit_share_no_format() -> None:
    costs = {"kl": {"values": [[0.9, 0.3, None], [0.8, 0.2, 0.0], [None, None, 0.1]]}}
    words = "/layers/0/unit: the layers of unit 'u' share no format: 'block.0.up' may have int2, int4; 'head' may have"
    with pytest.raises(InvalidInputError, match=words):
        solve(profile_json(costs=costs, layers=with_units("u", None, "u")))


def test_names_every_faulty_rule() -> None:
    with pytest.raises(InvalidInputError) as caught:
        solve(profile_json(), pin={"x": "int4"}, allow={"head": ["y"]})
    assert [fault.pointer for fault in caught.value.faults] == ["/pin/x", "/allow/head"]
