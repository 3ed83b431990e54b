from __future__ import annotations

from typing import Any

import pytest

from allocator import InvalidInputError, Request, load_profile
from allocator.tables import Budget, is_whole, resolve_budgets, resolve_objective
from tests.allocator.profiles import profile_json

PROFILE = load_profile(profile_json())


def budgets(**amounts: Any) -> tuple[Budget, ...]:
    return resolve_budgets(PROFILE, Request(budgets=amounts))


def test_effective_bits_are_a_view_of_the_stored_bytes() -> None:
    (budget,) = budgets(effective_bits=4.25)
    assert (budget.table, budget.limit, budget.unit) == ("weight_bytes", 4.25 * 320 / 8, "bit")
    assert budget.limit * budget.per_unit == pytest.approx(4.25)


def test_effective_bits_read_tables_in_other_units() -> None:
    mebibytes = {"weight_bytes": {"values": [[1, 2, 4]] * 3, "unit": "MiB"}}
    (budget,) = resolve_budgets(
        load_profile(profile_json(resources=mebibytes)), Request(budgets={"effective_bits": 8})
    )
    assert budget.limit * 2**20 == 320


def test_a_table_called_effective_bits_is_taken_as_it_is() -> None:
    own = {"effective_bits": {"values": [[1, 2, 4]] * 3}}
    (budget,) = resolve_budgets(
        load_profile(profile_json(resources=own)), Request(budgets={"effective_bits": 8})
    )
    assert (budget.table, budget.limit) == ("effective_bits", 8)


def test_integers_are_compared_exactly_and_decimals_within_their_resolution() -> None:
    whole, decimal = budgets(weight_bytes=100, latency_us=0.3)
    assert whole.tolerance == 0
    assert 0.3 - (0.1 + 0.2) < 0
    assert decimal.slack(0.1 + 0.2) >= -decimal.tolerance
    assert decimal.slack(0.3001) < -decimal.tolerance


def test_budgets_on_tables_where_higher_is_better_are_demands() -> None:
    sqnr = load_profile(profile_json(costs={"sqnr": {"values": [[1, 2, 3]] * 3, "better": "higher"}}))
    (budget,) = resolve_budgets(sqnr, Request(budgets={"sqnr": 5}))
    assert budget.at_least
    assert budget.slack(6) == 1
    assert budget.slack(4) == -1


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
        resolve_budgets(load_profile(profile_json(**changes)), Request(budgets={"effective_bits": 4}))


def test_the_only_cost_is_the_default_objective() -> None:
    assert resolve_objective(PROFILE, Request()).label == "kl"


def test_weights_and_constants_add_up() -> None:
    objective = resolve_objective(PROFILE, Request(objective={"kl": 1.0, "latency_us": 0.5}))
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
        resolve_objective(load_profile(profile_json(**changes)), Request(objective=objective))


def test_whole_tables_hold_integers_only() -> None:
    assert is_whole(PROFILE.resources["weight_bytes"])
    assert not is_whole(PROFILE.resources["latency_us"])
    half = {"b": {"values": [[1, 2, 3]] * 3, "constant": 0.5}}
    assert not is_whole(load_profile(profile_json(resources=half)).resources["b"])
