"""Amounts are exact: what is written counts, and what an answer prints can be asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import InvalidInputError, Status, frontier, solve
from allocator.contract.quantity import exact_quantity, parse_quantity
from tests.allocator.profiles import profile_json


def model(parameters: list[int], sizes: list[list[float]], unit: str = "byte") -> dict[str, Any]:
    """Layers whose cost falls with their size."""
    formats = len(sizes[0])
    return {
        "formats": {f"f{at}": {"weight_bits": at + 1} for at in range(formats)},
        "layers": [{"name": f"l{at}", "parameters": count} for at, count in enumerate(parameters)],
        "costs": {"kl": {"values": [[1.0 / (1 + size) for size in row] for row in sizes]}},
        "resources": {"weight_bytes": {"values": sizes, "unit": unit}},
    }


def test_a_decimal_number_of_bits_is_that_number() -> None:
    for bits in (4.35, "4.35"):
        plan = solve(model([800], [[100, 435]]), budgets={"effective_bits": bits})
        assert plan.assignment == {"l0": "f1"}
        assert plan.usage["effective_bits"].used == 4.35
        assert plan.usage["effective_bits"].limit == 4.35
        assert plan.usage["effective_bits"].slack == 0


@pytest.mark.thorough
def test_every_amount_of_three_decimals_is_a_whole_number_of_the_next_unit() -> None:
    for thousandths in range(1, 100_000, 7):
        text = f"{thousandths // 1000}.{thousandths % 1000:03d}"
        assert parse_quantity(f"{text} MB", "kB") == thousandths
        assert parse_quantity(f"{text} s", "ms") == thousandths
    assert parse_quantity("1.001 MB", "byte") == 1_001_000


def test_an_exponent_beyond_doubles_is_nothing_rather_than_a_number_of_a_billion_digits() -> None:
    assert exact_quantity("1e-999999999", "byte") == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=4),
    st.sampled_from(["byte", "KiB", "kB"]),
    st.randoms(use_true_random=False),
)
@pytest.mark.thorough
def test_bits_that_are_printed_can_be_asked_for(parameters: list[int], unit: str, random: Any) -> None:
    profile = model(parameters, [[random.randint(1, 10**7) for _ in range(3)] for _ in parameters], unit)
    for name in ("effective_bits", "weight_bytes"):
        front = frontier(profile, name, points=3)
        for amount, objective in zip(front.spend.tolist(), front.objective.tolist(), strict=True):
            plan = solve(profile, budgets={name: amount})
            assert plan.objective is not None
            assert plan.objective <= objective + 1e-12 * front.objective[0]  # the front's are running sums
        assert [plan.status for plan in front.exact] == [Status.OPTIMAL] * len(front.exact)
        for plan in front.exact:
            again = solve(profile, budgets={name: plan.usage[name].used})
            assert again.objective == plan.objective


def test_the_reach_that_is_printed_can_be_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        profile = model(rng.integers(1, 99, 3).tolist(), rng.integers(1, 999, (3, 3)).tolist())
        answer = solve(profile, budgets={"effective_bits": 1e-3})
        assert answer.status is Status.INFEASIBLE
        reach = answer.achievable["effective_bits"]
        assert solve(profile, budgets={"effective_bits": reach.least}).status is Status.OPTIMAL
        assert (
            solve(profile, budgets={"effective_bits": np.nextafter(reach.least, 0)}).status
            is Status.INFEASIBLE
        )


@pytest.mark.parametrize("solver", ["exact", "highs", "pulp", "cpsat"])
def test_decimals_of_both_signs_may_add_up_to_nothing(solver: str) -> None:
    signed = {"values": [[9, 9, 0.1], [9, 9, 0.2], [9, 9, -0.3]]}  # 0.1 + 0.2 - 0.3 is 5.6e-17 in doubles
    profile = profile_json(costs=profile_json()["costs"] | {"drift": signed})
    for limit in ({"max": 0}, {"min": 0, "max": 0}):
        plan = solve(profile, objective="kl", limits=[{"table": "drift"} | limit], solver=solver)
        assert plan.status is Status.OPTIMAL
        assert set((plan.assignment or {}).values()) == {"int8"}


@pytest.mark.parametrize("solver", ["exact", "highs", "pulp", "cpsat"])
def test_a_row_of_zeros_keeps_any_limit(solver: str) -> None:
    profile = profile_json(resources={"us": {"values": [[0, 0, 0]] * 3}, "ms": {"values": [[0, 0, 0.5]] * 3}})
    plan = solve(profile, objective="kl", budgets={"us": 1e-6, "ms": 1e-6}, solver=solver)
    assert plan.status is Status.OPTIMAL
    assert set((plan.assignment or {}).values()) == {"int4"}


def test_integers_that_doubles_cannot_add_up_are_refused() -> None:
    big = 2**52 + 1
    profile = profile_json(resources={"bops": {"values": [[big, big + 2, big + 4]] * 3}})
    with pytest.raises(
        InvalidInputError,
        match=r"/resources/bops: its integers add up to 1.351e\+16.*give the table in a larger unit",
    ):
        solve(profile, objective="kl", budgets={"bops": 3 * big + 2})
    assert solve(profile, objective="kl").status is Status.OPTIMAL  # not in play


def test_a_constant_counts_in_a_peak_of_the_whole_table_only() -> None:
    peak = {"values": [[1, 2, 4], [2, 3, 5], [4, 6, 9]], "combine": "max", "constant": 10, "unit": "byte"}
    profile = profile_json(resources={"peak": peak})
    part = {"name": "part", "table": "peak", "layers": ["block.*"]}
    plan = solve(profile, objective="kl", limits=[part | {"max": 3}])
    assert plan.assignment == {"block.0.up": "int4", "block.0.down": "int4", "head": "int8"}
    assert plan.usage["part"].used == 3
    refused = solve(profile, objective="kl", limits=[part | {"max": 1}])
    assert refused.status is Status.INFEASIBLE
    assert (refused.achievable["part"].least, refused.achievable["part"].most) == (2, 5)
    whole = solve(profile, objective="kl", budgets={"peak": 16})
    assert whole.usage["peak"].used == 16
    assert solve(profile, objective="kl", budgets={"peak": 13}).achievable["peak"].least == 14


#: Bit operations of 80 blocks of a model of 70 billion weights: 4.4e16, all of them multiples of 2**23.
BLOCKS, MACS = 80, (8192 * 8192, 8192 * 28672, 28672 * 8192)


def large(rows: list[list[float]], constant: float = 0) -> dict[str, Any]:
    """Layers whose cost falls with their size, in bit operations."""
    profile = model([1] * len(rows), rows)
    profile["resources"] = {"bops": {"values": rows, "constant": constant}}
    return profile


def test_bit_operations_of_a_large_model_are_planned_to_the_last_one() -> None:
    rows = [[float(macs * 8192 * bits * 16) for bits in (2, 4, 8)] for macs in MACS * BLOCKS]
    profile = large(rows, constant=2.0**30)
    grain = 8192 * 16 * 2**24
    most = sum(row[2] for row in rows) + 2**30
    assert most > 2 * 2**53
    for amount in (int(0.7 * most), int(0.7 * most) // grain * grain + 2**30):
        plan = solve(profile, budgets={"bops": str(amount)})
        chosen = [int(name[1]) for name in (plan.assignment or {}).values()]
        used = sum(int(row[column]) for row, column in zip(rows, chosen, strict=True)) + 2**30
        assert plan.status is Status.OPTIMAL
        assert int(plan.usage["bops"].used) == used <= amount
        again = solve(profile, budgets={"bops": plan.usage["bops"].used})
        assert again.objective == plan.objective


@pytest.mark.parametrize("solver", ["exact", "highs", "pulp", "cpsat"])
def test_sums_beyond_two_to_the_53_are_exact_where_a_power_of_two_divides_them(solver: str) -> None:
    unit = 2.0**20
    rows = [[3 * 2.0**50, 3 * 2.0**50 + unit], [5 * 2.0**51, 5 * 2.0**51 + unit], [2.0**51, 2.0**51 + unit]]
    least = int(sum(row[0] for row in rows))
    for spare, bought in ((0, 0), (2**20 - 1, 0), (2**20, 1), (3 * 2**20 - 1, 2), (3 * 2**20, 3)):
        plan = solve(large(rows), budgets={"bops": str(least + spare)}, solver=solver)
        assert plan.status is Status.OPTIMAL
        assert int(plan.usage["bops"].used) == least + bought * 2**20
    refused = solve(large(rows), budgets={"bops": str(least - 1)}, solver=solver)
    assert refused.status is Status.INFEASIBLE
    assert refused.achievable["bops"].least == least


def test_a_power_of_two_that_does_not_suffice_is_named() -> None:
    rows = [[2.0**56, 2.0**56 + 16]] * 2
    with pytest.raises(InvalidInputError, match=r"sums beyond 2\*\*53 .* the largest power of two .*, 16 "):
        solve(large(rows) | {"layers": [{"name": "a"}, {"name": "b"}]}, budgets={"bops": 2.0**60})


def test_an_amount_between_two_doubles_is_not_rounded_up() -> None:
    rows = [[2.0**54, 2.0**54 + 8], [2.0**54, 2.0**54 + 8]]
    asked = 2**55 + 15  # the nearest double is one more
    assert int(float(asked)) > asked
    plan = solve(large(rows), budgets={"bops": str(asked)})
    assert int(plan.usage["bops"].used) == 2**55 + 8


def test_a_fused_kernel_of_a_half_is_no_integer() -> None:
    profile = model([1, 1], [[4, 8], [4, 8]])
    profile["fusions"] = [
        {"name": "both", "layers": ["l0", "l1"], "resources": {"weight_bytes": [3.5, 10.5]}}
    ]
    plan = solve(profile, budgets={"weight_bytes": 10.5})
    assert (plan.usage["weight_bytes"].used, plan.fusions) == (10.5, ("both",))
