"""What an answer says beside its plan."""

from __future__ import annotations

from typing import Any

import pytest

from allocator import Allocation, solve

FORMATS = {"int2": {"weight_bits": 2}, "int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}}
BYTES = [[25, 50, 100]] * 2


def profile(costs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "formats": FORMATS,
        "layers": [{"name": "0.q_proj", "parameters": 100}, {"name": "0.down_proj", "parameters": 100}],
        "costs": costs,
        "resources": {"weight_bytes": {"values": BYTES, "unit": "byte"}},
        **fields,
    }


def texts(plan: Allocation, about: str, severity: str | None = None) -> list[str]:
    return [note.text for note in plan.notes if note.about == about and severity in {None, note.severity}]


def test_a_plan_is_held_against_uniform_by_every_table() -> None:
    costs = {"kl": {"values": [[9, 3, 0], [1, 0.5, 0.4]]}, "fisher": {"values": [[1, 0.5, 0.4], [90, 1, 0]]}}
    plan = solve(profile(costs), objective="kl", budgets={"weight_bytes": 125})
    assert plan.assignment == {"0.q_proj": "int8", "0.down_proj": "int2"}
    assert texts(plan, "uniform", "warning") == [
        "by 'fisher' this plan is 60.3 × worse than uniform int4 in 80.0% of its bytes"
    ]
    assert texts(plan, "uniform", "note") == [
        "by 'kl' uniform int4 in 80.0% of its bytes is 3.5 × worse than this plan"
    ]


def test_uniform_has_the_bytes_of_the_budget_and_not_only_those_of_the_plan() -> None:
    costs = {"kl": {"values": [[9, 3, 0], [4, 3, 0]]}, "fisher": {"values": [[1, 2, 3], [9, 1, 0]]}}
    plan = solve(profile(costs), objective="fisher", budgets={"effective_bits": 5.0})
    assert plan.usage["effective_bits"].used == 5.0
    smaller = solve(profile(costs), objective="fisher", budgets={"effective_bits": 4.9})
    assert (
        smaller.usage["effective_bits"].used == 3.0
    )  # int2 and int4: less than uniform int4, which fits too
    assert texts(smaller, "uniform", "warning") == [
        "by 'kl' this plan is 2 × worse than uniform int4 in 133.3% of its bytes"
    ]


def test_tables_that_are_maximised_or_negative_are_compared_by_their_values() -> None:
    costs = {
        "kl": {"values": [[9, 3, 0], [1, 0.5, 0.4]]},
        "sqnr": {"values": [[1, 2, 3], [10, 40, 41]], "better": "higher"},
        "trace": {"values": [[1, 0.5, 0.4], [-1, -2, -3]]},
    }
    plan = solve(profile(costs), objective="kl", budgets={"weight_bytes": 125})
    assert texts(plan, "uniform", "warning") == [
        "by 'sqnr' this plan (13) is worse than uniform int4 in 80.0% of its bytes (42)"
    ]
    assert "by 'trace' this plan (-0.6) is worse than uniform int4" in texts(plan, "uniform", "note")[0]


def test_negative_entries_that_carry_a_plan_are_a_warning_and_noise_is_none() -> None:
    plan = solve(profile({"trace": {"values": [[-5, -1, 0], [1, 0.5, 0]]}}), budgets={"effective_bits": 5})
    (text,) = texts(plan, "negative entries", "warning")
    assert text.startswith("1 of 2 layers are planned by negative entries of 'trace', -5 in all")
    noisy = {"kl": {"values": [[9, 3, -0.0001], [1, 0.5, 0.1]]}}
    assert not texts(solve(profile(noisy), budgets={"effective_bits": 8}), "negative entries")


@pytest.mark.parametrize(
    ("name", "said", "warns"),
    [
        ("output_mse", None, True),
        ("mine", "one_kind", True),
        ("output_mse", "all", False),
        ("mine", None, False),
    ],
)
def test_tables_that_cannot_compare_kinds_of_layers_are_a_warning(
    name: str, said: str | None, warns: bool
) -> None:
    costs = {name: {"values": [[9, 3, 0], [1, 0.5, 0]]} | ({"comparable": said} if said else {})}
    plan = solve(profile(costs), budgets={"effective_bits": 5})
    assert bool(texts(plan, "comparison", "warning")) is warns
    one_kind = profile(costs)
    one_kind["layers"] = [{"name": f"{n}.q_proj", "parameters": 100} for n in range(2)]
    assert not texts(solve(one_kind, budgets={"effective_bits": 5}), "comparison")
    pinned = solve(profile(costs), budgets={"effective_bits": 8}, pin={"0.q_proj": "int4"})
    assert not texts(pinned, "comparison")  # nothing is weighed against it


def test_a_plan_that_its_table_calls_broken_is_said_to_be() -> None:
    costs = {
        "kl": {"values": [[9, 3, 0], [4, 3, 0]], "tolerable": 1.0, "meaning": "nats"},
        "fisher": {"values": BYTES},
    }
    for objective in ("kl", "fisher"):  # whatever was optimised
        plan = solve(profile(costs), objective=objective, budgets={"effective_bits": 4})
        assert texts(plan, "loss", "warning")[0].startswith("by 'kl' this plan comes to ")
    assert not texts(solve(profile(costs), objective="kl", budgets={"effective_bits": 8}), "loss")


def test_choices_within_the_noise_are_said() -> None:
    sure = {"kl": {"values": [[9, 3, 0], [4, 2, 0]], "stderr": [[0.1] * 3] * 2}}
    assert not texts(solve(profile(sure), budgets={"effective_bits": 6}), "noise")
    unsure = {"kl": {"values": [[9, 3, 0], [4, 2, 0]], "stderr": [[5.0] * 3] * 2}}
    found = texts(solve(profile(unsure), budgets={"effective_bits": 6}), "noise", "warning")
    assert found[0].startswith("2 of 2 layers could have a format that spends no more and costs the same")
    assert found[1].startswith("the plan does not differ from uniform int4 by two standard errors")


def test_a_pin_is_answered_with_what_it_costs() -> None:
    costs = {"kl": {"values": [[8, 3, 1], [2, 1.5, 1]]}}
    free = solve(profile(costs), budgets={"effective_bits": 5})
    pinned = solve(profile(costs), budgets={"effective_bits": 5}, pin={"*.q_proj": "int2"})
    assert (free.objective, pinned.objective) == (3.0, 9.0)
    assert texts(pinned, "pins", "warning") == ["pin costs 3 ×: without, kl could be 3 instead of 9"]
    assert not texts(free, "pins")
    both = solve(
        profile(costs),
        budgets={"effective_bits": 5},
        pin={"*.q_proj": "int8"},
        forbid={"*.down_proj": ["int8"]},
    )
    assert not texts(both, "pins")  # what would have been chosen anyway costs nothing


def test_coverage_is_said_in_answers_without_a_plan_too() -> None:
    outside = [
        {"name": "experts", "parameters": 1800, "stored_bytes": 7200, "reason": "experts: not supported here"}
    ]
    held = profile({"kl": {"values": BYTES}}, outside=outside)
    plan = solve(held, budgets={"weight_bytes": 1})
    assert plan.status == "infeasible"
    assert [str(note) for note in plan.notes] == [
        "warning: only 10 % of the weights are planned; 7.2 kB are outside (experts: not supported here), and not "
        "counted in 'weight_bytes'; the largest is 'experts', 7.2 kB"
    ]
    assert not texts(solve(profile({"kl": {"values": BYTES}}), budgets={"effective_bits": 5}), "coverage")


def test_notes_that_do_not_fit_into_the_time_are_named() -> None:
    from allocator.answer.notes.gather import notes_of
    from allocator.contract.profile import load_profile
    from allocator.contract.request import make_request
    from allocator.knapsack.compile import compile_problem
    from allocator.solvers.baselines.uniform import uniform_plan

    request = make_request({"budgets": {"effective_bits": 5}, "time_limit_s": 1.0})
    compiled = compile_problem(load_profile(profile({"kl": {"values": BYTES}})), request)
    (note,) = notes_of(compiled, request, uniform_plan(compiled.problem, 0), seconds=2.0)
    assert note.text.startswith("not looked at within the time limit: comparison of layers, ")


def test_uniform_that_is_the_plan_is_not_called_worse() -> None:
    costs = {"kl": {"values": [[9, 3, 0], [9, 3, 0]]}}
    plan = solve(
        profile(costs), objective="kl", budgets={"weight_bytes": 100}, forbid={"*": ["int8", "int2"]}
    )
    assert not texts(plan, "uniform", "warning")
    same = solve(
        profile(costs), objective="kl", budgets={"weight_bytes": 101}, forbid={"0.q_proj": ["int2", "int8"]}
    )
    assert texts(same, "uniform", "note") == [
        "by 'kl' this plan is as good as uniform int4 in 100.0% of its bytes"
    ]
