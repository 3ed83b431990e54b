"""Plans are read and checked before anything is touched."""

from __future__ import annotations

import pytest

from allocator import Allocation, InvalidInputError, Profile, load_profile, make_request, solve_request
from quantize import formats_of, parse_format
from quantize.plan import require_layers


@pytest.fixture
def profile() -> Profile:
    return load_profile(
        {
            "formats": {"int4-g64": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
            "layers": [{"name": "a"}, {"name": "b"}],
            "costs": {"kl": {"values": [[2, 1], [3, 1]]}},
            "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]]}},
        }
    )


def _solved(profile: Profile, limit: int) -> Allocation:
    request = make_request({"objective": "kl", "budgets": {"weight_bytes": limit}})
    return solve_request(profile, request)


def test_names_become_formats() -> None:
    assert formats_of({"a": "int4-g64", "b": "fp16"}) == {
        "a": parse_format("int4-g64"),
        "b": parse_format("fp16"),
    }


def test_an_allocation_gives_the_formats_of_its_assignment(profile: Profile) -> None:
    assert formats_of(_solved(profile, 150)) == {"a": parse_format("int4-g64"), "b": parse_format("int8")}


def test_an_allocation_without_a_plan_is_refused(profile: Profile) -> None:
    infeasible = _solved(profile, 10)
    with pytest.raises(
        InvalidInputError, match="/assignment: there is nothing to apply: the allocation is infeasible"
    ):
        formats_of(infeasible)


def test_unknown_formats_are_all_listed_with_their_layers() -> None:
    with pytest.raises(InvalidInputError, match="unknown format 'int9'") as caught:
        formats_of({"a": "int9", "b": "int8", "c/d": "q9_k"})
    assert [fault.pointer for fault in caught.value.faults] == ["/assignment/a", "/assignment/c~1d"]


def test_layers_that_the_model_does_not_have_are_all_listed_with_near_names() -> None:
    plan = formats_of({"encoder.0": "int8", "encoder.9": "int8", "head": "int8"})
    with pytest.raises(InvalidInputError, match=r"unknown layer 'encoder\.9'; did you mean") as caught:
        require_layers(plan, ["encoder.0", "encoder.1"])
    assert [fault.pointer for fault in caught.value.faults] == ["/assignment/encoder.9", "/assignment/head"]


def test_a_plan_for_some_of_the_layers_passes() -> None:
    assert require_layers(formats_of({"a": "int8"}), iter(["b", "a"])) is None
