from __future__ import annotations

from typing import Any

import pytest

from allocator import InvalidInputError, Request, Status, certify, load_profile, solve
from allocator.knapsack.constraint import Constraint
from allocator.knapsack.constraints import resolve_limits
from allocator.knapsack.tables import resolve_objectives
from tests.allocator.profiles import profile_json

PROFILE = load_profile(profile_json())


def budgets(**amounts: Any) -> tuple[Constraint, ...]:
    return resolve_limits(PROFILE, Request(budgets=amounts))


def test_effective_bits_are_a_view_of_the_stored_bytes() -> None:
    (row,) = budgets(effective_bits=4.25)
    assert (row.table, row.high, row.unit) == ("weight_bytes", 4.25 * 320 / 8, "bit")
    assert row.high is not None
    assert row.high * row.per_unit == pytest.approx(4.25)


def test_effective_bits_read_tables_in_other_units() -> None:
    mebibytes = {"weight_bytes": {"values": [[1, 2, 4]] * 3, "unit": "MiB"}}
    (row,) = resolve_limits(
        load_profile(profile_json(resources=mebibytes)), Request(budgets={"effective_bits": 8})
    )
    assert (row.limit, row.high) == (8, 0)  # 320 bytes, of which whole MiB are none


def test_a_table_called_effective_bits_is_taken_as_it_is() -> None:
    own = {"effective_bits": {"values": [[1, 2, 4]] * 3}}
    (row,) = resolve_limits(load_profile(profile_json(resources=own)), Request(budgets={"effective_bits": 8}))
    assert (row.table, row.high) == ("effective_bits", 8)


def test_integers_are_compared_exactly_and_decimals_within_their_resolution() -> None:
    whole, decimal = budgets(weight_bytes=100, latency_us=0.3)
    assert whole.broken(100.0000001)
    assert not whole.broken(100)
    assert 0.3 - (0.1 + 0.2) < 0
    assert not decimal.broken(0.1 + 0.2)
    assert decimal.broken(0.3001)


def test_budgets_on_tables_where_higher_is_better_are_demands() -> None:
    sqnr = load_profile(profile_json(costs={"sqnr": {"values": [[1, 2, 3]] * 3, "better": "higher"}}))
    (row,) = resolve_limits(sqnr, Request(budgets={"sqnr": 5}))
    assert (row.low, row.high) == (5, None)
    assert row.slack(6) == 1
    assert row.slack(4) == -1


@pytest.mark.parametrize(
    ("amounts", "words"),
    [
        (
            {"weight_byte": 1},
            "/budgets/weight_byte: unknown budget 'weight_byte'; did you mean 'weight_bytes'",
        ),
        ({"weight_bytes": "1 parsec"}, "/budgets/weight_bytes: unknown unit 'parsec'"),
        ({"weight_bytes": -1}, "/budgets/weight_bytes: expected at least 0 byte, got -1"),
        ({"effective_bits": 0}, "/budgets/effective_bits: expected more than 0 bits per weight"),
    ],
)
def test_refuses_budgets(amounts: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        budgets(**amounts)


def test_names_every_faulty_budget() -> None:
    with pytest.raises(InvalidInputError) as caught:
        budgets(nope=1, weight_bytes="x", latency_us=3)
    assert [fault.pointer for fault in caught.value.faults] == ["/budgets/nope", "/budgets/weight_bytes"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"resources": {"b": {"values": [[1, 1, 1]] * 3}}},
            "counted in the resource 'weight_bytes', which .* has: 'b'",
        ),
        ({"layers": [{"name": name} for name in "abc"]}, "need the number of parameters of the layers"),
        (
            {"resources": {"weight_bytes": {"values": [[1, 1, 1]] * 3, "unit": "us"}}},
            "is a time, but the table is in b",
        ),
    ],
)
def test_refuses_effective_bits_that_cannot_be_counted(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        resolve_limits(load_profile(profile_json(**changes)), Request(budgets={"effective_bits": 4}))


def test_the_only_cost_is_the_default_objective() -> None:
    assert resolve_objectives(PROFILE, Request())[0].label == "kl"


def test_weights_and_constants_add_up() -> None:
    (objective,) = resolve_objectives(PROFILE, Request(objective={"kl": 1.0, "latency_us": 0.5}))
    assert objective.constant == 5
    assert objective.label == "1·kl + 0.5·latency_us"


TWO = {
    "kl": {"values": [[1, 2, 3]] * 3},
    "sqnr": {"values": [[1, 2, 3]] * 3, "better": "higher"},
}


@pytest.mark.parametrize(
    ("changes", "objective", "words"),
    [
        ({}, "kll", "/objective: unknown objective 'kll'; did you mean 'kl'"),
        ({}, {"kl": 1.0, "x": 1.0}, "/objective/x: unknown objective 'x'"),
        ({}, {"kl": 0.0}, "/objective/kl: expected a weight above 0, got 0.0"),
        (
            {"costs": TWO},
            None,
            "/objective: name a table to minimise; the profile has these costs: 'kl', 'sqnr'",
        ),
        (
            {"costs": TWO},
            {"kl": 1.0, "sqnr": 1.0},
            "lower is better and tables where higher is better cannot be added",
        ),
        (
            {"resources": {"peak": {"values": [[1, 2, 3]] * 3, "combine": "max"}}},
            "peak",
            "/objective: 'peak' combines by max and can only be a budget",
        ),
    ],
)
def test_refuses_objectives(changes: dict[str, Any], objective: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        resolve_objectives(load_profile(profile_json(**changes)), Request(objective=objective))


def test_whole_tables_hold_integers_only() -> None:
    assert PROFILE.resources["weight_bytes"].whole
    assert not PROFILE.resources["latency_us"].whole
    half = {"b": {"values": [[1, 2, 3]] * 3, "constant": 0.5}}
    assert not load_profile(profile_json(resources=half)).resources["b"].whole


BLOCKS = profile_json(
    layers=[
        {"name": f"block.{block}.{part}", "parameters": 10} for block in range(3) for part in ("up", "down")
    ],
    costs={"kl": {"values": [[0.9, 0.3, 0.0], [0.8, 0.2, 0.0]] * 3}},
    resources={"weight_bytes": {"values": [[10, 20, 40]] * 6, "unit": "byte", "constant": 5}},
)


def plan(*limits: dict[str, Any], **fields: Any) -> dict[str, str]:
    allocation = solve(BLOCKS, limits=list(limits), **fields)
    assert allocation.status is Status.OPTIMAL
    assert allocation.assignment is not None
    return allocation.assignment


def test_a_pool_of_layers_has_a_limit_of_its_own() -> None:
    pool = {"table": "weight_bytes", "layers": ["block.0.*"], "max": 45}
    assert plan(pool) == {
        **dict.fromkeys(("block.0.up", "block.0.down"), "int4"),
        **dict.fromkeys((f"block.{block}.{part}" for block in (1, 2) for part in ("up", "down")), "int8"),
    }


def test_the_constant_counts_where_the_whole_table_is_in_scope_only() -> None:
    whole, part = resolve_limits(
        load_profile(BLOCKS),
        Request(
            limits=[
                {"table": "weight_bytes", "max": 9},
                {"table": "weight_bytes", "layers": ["block.0.*"], "max": 9},
            ]
        ),
    )
    assert (whole.constant, part.constant) == (5, 0)


def test_layers_are_counted_without_a_table() -> None:
    few = {"formats": ["int8"], "max": 2}
    assert list(plan(few).values()).count("int8") == 2


def test_a_count_can_be_demanded_in_every_block() -> None:
    each = {"formats": ["int8"], "each": "block.{}.*", "min": 1}
    cheap = plan(each, objective="weight_bytes")
    assert [
        sum(cheap[f"block.{block}.{part}"] == "int8" for part in ("up", "down")) for block in range(3)
    ] == [1, 1, 1]
    allocation = solve(BLOCKS, objective="weight_bytes", limits=[each | {"name": "eights in block"}])
    assert [*allocation.usage] == ["eights in block 0", "eights in block 1", "eights in block 2"]
    assert allocation.usage["eights in block 1"].used == 1


def test_a_band_keeps_both_sides() -> None:
    band = {"table": "weight_bytes", "min": 150, "max": 160}
    allocation = solve(BLOCKS, objective={"kl": 1.0, "weight_bytes": 1.0}, limits=[band])
    usage = allocation.usage["weight_bytes"]
    assert (usage.at_least, usage.limit) == (150, 160)
    assert 150 <= usage.used <= 160
    assert usage.slack == min(usage.used - 150, 160 - usage.used)


def test_the_certificate_sees_every_kind_of_broken_limit() -> None:
    request = Request(
        limits=[
            {"name": "pool", "table": "weight_bytes", "layers": ["block.0.*"], "max": 45},
            {"name": "count", "formats": ["int2"], "max": 2},
            {"name": "floor", "table": "weight_bytes", "min": 300},
        ]
    )
    assignment = {layer["name"]: "int2" for layer in BLOCKS["layers"]} | {"block.0.up": "int8"}
    assert certify(load_profile(BLOCKS), request, assignment).violations == (
        "pool: 50 byte is above the most allowed, 45 byte",
        "count: 5 layer is above the most allowed, 2 layer",
        "floor: 95 byte is below the least allowed, 300 byte",
    )


def test_an_impossible_demand_says_what_can_be_reached() -> None:
    allocation = solve(BLOCKS, limits=[{"formats": ["int8"], "min": 4}], budgets={"weight_bytes": 145})
    assert allocation.status is Status.INFEASIBLE
    count = allocation.achievable["layers@int8"]
    assert (count.at_least, count.least, count.most) == (4, 0, 6)
    assert count.most_with_others == 2
    stored = allocation.achievable["weight_bytes"]
    assert stored.least_with_others == 4 * 40 + 2 * 10 + 5


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "neither side": ({"table": "weight_bytes"}, "/limits/0: expected min, max or both, got neither"),
    "min above max": (
        {"table": "weight_bytes", "min": 2, "max": "1 B"},
        "/limits/0: min 2.0 is above max '1 B'",
    ),
    "unknown table": ({"table": "bytes", "max": 1}, "/limits/0/table: unknown table 'bytes'"),
    "unknown layer": (
        {"layers": ["blok.*"], "max": 1},
        r"/limits/0/layers/0: unknown layer or glob 'blok\.\*'",
    ),
    "unknown format": (
        {"formats": ["*", "int5"], "max": 1},
        "/limits/0/formats/1: unknown format or glob 'int5'",
    ),
    "each without a place": (
        {"each": "block.*", "max": 1},
        r"/limits/0: expected a glob with one \{\} where names diff",
    ),
    "each that fits nothing": (
        {"each": "x.{}.y", "max": 1},
        r"/limits/0: each: 'x\.\{\}\.y' fits no layer in scope",
    ),
    "a unit of another kind": (
        {"table": "weight_bytes", "max": "3 ms"},
        "/limits/0: '3 ms' is a time, but the table",
    ),
    "unknown field": ({"tabel": "x", "max": 1}, "/limits/0/tabel: unknown field 'tabel'"),
    "NaN": ({"max": float("nan")}, "/limits/0/max"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_limits(name: str) -> None:
    limit, words = REFUSED[name]
    with pytest.raises(InvalidInputError, match=words):
        solve(BLOCKS, limits=[limit])


def test_a_least_peak_cannot_be_asked_for() -> None:
    peak = profile_json(resources={"peak": {"values": [[1, 2, 3]] * 3, "combine": "max"}})
    with pytest.raises(
        InvalidInputError, match="/limits/0: 'peak' combines by max; a least peak cannot be asked for"
    ):
        solve(peak, limits=[{"table": "peak", "min": 2}])


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="/limits: two rows are called 'weight_bytes'; give one of them a name"
    ):
        solve(BLOCKS, budgets={"weight_bytes": 100}, limits=[{"table": "weight_bytes", "min": 10}])
