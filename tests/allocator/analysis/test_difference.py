"""Plans side by side against sums by hand."""

from __future__ import annotations

from typing import Any

import pytest

from allocator import InvalidInputError, Profile, load_profile, solve, total
from allocator.analysis.difference import LayerDifference, differing, require_plan
from allocator.answer.certificate import totals


def profile(**changes: Any) -> Profile:
    return load_profile(
        {
            "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
            "layers": [{"name": "q"}, {"name": "k"}, {"name": "up"}],
            "costs": {
                "kl": {"values": [[0.5, 0.25], [0.375, 0.125], [4, 1]]},
                "partial": {"values": [[1, 2], [3, None], [5, 6]]},
            },
            "resources": {
                "bytes": {"values": [[10, 20], [10, 20], [30, 60]], "unit": "byte", "constant": 7},
                "peak": {"values": [[1, 2], [3, 4], [5, 6]], "combine": "max"},
            },
            "fusions": [{"name": "qk", "layers": ["q", "k"], "resources": {"bytes": [15, 31]}}],
        }
        | changes
    )


FOUR = {"q": "int4", "k": "int4", "up": "int4"}


def test_only_layers_that_differ_are_listed_with_every_table() -> None:
    other = FOUR | {"k": "int8", "up": "int8"}
    change_of_k = {"kl": -0.25, "partial": None, "bytes": 10, "peak": 1}
    change_of_up = {"kl": -3, "partial": 1, "bytes": 30, "peak": 1}
    assert differing(profile(), FOUR, other) == (
        LayerDifference(layer="k", first="int4", second="int8", change=change_of_k),
        LayerDifference(layer="up", first="int4", second="int8", change=change_of_up),
    )
    assert differing(profile(), other, other) == ()


def test_totals_are_those_of_every_table() -> None:
    assert totals(profile(), FOUR) == {"kl": 4.875, "partial": 9, "bytes": 57, "peak": 5}
    fused = totals(profile(), FOUR, ["qk"])
    assert fused["bytes"] == 52 == total(profile(), "bytes", FOUR, ["qk"])


def test_a_sum_over_entries_that_are_not_there_is_none() -> None:
    found = totals(profile(), FOUR | {"k": "int8"})
    assert found["partial"] is None
    assert found["bytes"] == 67


def test_totals_of_a_plan_are_what_its_certificate_says() -> None:
    plan = solve(profile(), objective="kl", budgets={"bytes": 80})
    assert plan.assignment is not None
    assert plan.certificate is not None
    found = totals(profile(), plan.assignment, plan.fusions)
    assert found["kl"] == plan.objective
    assert found["bytes"] == plan.certificate.used["bytes"]


@pytest.mark.parametrize(
    ("assignment", "fusions", "pointer", "words"),
    [
        ({"q": "int4"}, [], "/assignment", "expected a format for every layer, got none for 'k' and 1 more"),
        (FOUR | {"kk": "int4"}, [], "/assignment/kk", "unknown layer 'kk'; did you mean 'k'"),
        (FOUR | {"k": "int5"}, [], "/assignment/k", "unknown format 'int5'; did you mean"),
        (FOUR, ["qkv"], "/fusions/0", "unknown fusion 'qkv'; did you mean 'qk'"),
    ],
)
def test_what_is_no_plan_is_refused(
    assignment: dict[str, str], fusions: list[str], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words) as refusal:
        require_plan(profile(), assignment, fusions)
    assert [fault.pointer for fault in refusal.value.faults] == [pointer]


def test_every_fault_of_a_plan_is_named_at_once() -> None:
    with pytest.raises(InvalidInputError, match="unknown layer") as refusal:
        require_plan(profile(), {"x": "int4", "k": "odd"}, ["y"])
    assert len(refusal.value.faults) == 4
