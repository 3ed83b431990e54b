"""The gate: it passes what is better than its baselines, and says why it fails the rest."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from allocator import InvalidInputError, solve
from quantize.feedback import Measurement, Verification, as_markdown, refine, verify
from tests.quantize.feedback.problems import coupled


def test_a_refined_plan_passes_and_the_rows_are_measured() -> None:
    profile, loss = coupled()
    plan = refine(profile, loss, max_evaluations=15, budgets={"effective_bits": 4.0}).allocation
    report = verify(profile, plan, loss, objective="kl")
    assert report.passed
    assert [row.method for row in report.rows] == ["plan", "uniform", "greedy", "full precision"]
    assert report.budgets == {"effective_bits": 4.0}
    for row, solver in zip(report.rows[1:3], ("uniform", "greedy"), strict=True):
        baseline = solve(profile, objective="kl", budgets={"effective_bits": 4.0}, solver=solver).assignment
        assert baseline is not None
        assert row.loss == loss(baseline) >= report.rows[0].loss
        assert row.budget_share is not None
        assert row.budget_share <= 1
    assert Verification.model_validate_json(report.model_dump_json()) == report


def test_a_plan_that_a_baseline_beats_fails_but_within_the_tolerance() -> None:
    profile, _ = coupled()
    plan = solve(profile, budgets={"effective_bits": 4.0})

    def backwards(given: Mapping[str, str]) -> float:
        return 1.0 if given == plan.assignment else 0.9

    report = verify(profile, plan, backwards, objective="kl")
    assert not report.passed
    assert report.failures[0] == (
        "uniform int3 measures a loss of 0.9 in 75.7% of the budget, the plan 1 in 99.4% of the budget"
    )
    assert "**Failed.**\n\n- uniform int3 measures" in as_markdown(report)
    assert verify(profile, plan, backwards, objective="kl", tolerance=0.11).passed


def test_a_budget_that_the_clock_does_not_confirm_fails() -> None:
    profile, loss = coupled()
    plan = solve(profile, objective="kl", budgets={"latency_us": 1200.0})
    report = verify(
        profile, plan, lambda given: Measurement(loss(given), 5.0, 1300.0), objective="kl", tolerance=0.99
    )
    assert report.failures == ("latency_us measures 1,300, the plan was made for at most 1,200",)
    assert "| 5 | 1,300 |" in as_markdown(report)


def test_a_plan_for_another_model_is_refused_before_anything_is_measured() -> None:
    profile, _ = coupled(2)

    def never(_: Mapping[str, str]) -> float:
        raise AssertionError

    for plan, detail in (
        (
            {"l0": "int4", "l9": "int4"},
            r"/assignment/l9: unknown layer 'l9'.*\n/assignment/l1: the plan leaves",
        ),
        ({"l0": "int4", "l1": "int5"}, "/assignment/l1: unknown format 'int5'"),
    ):
        with pytest.raises(InvalidInputError, match=detail):
            verify(profile, plan, never, objective="kl")
    tied = profile.model_copy(
        update={"layers": tuple(layer.model_copy(update={"unit": "u"}) for layer in profile.layers)}
    )
    with pytest.raises(InvalidInputError, match=r"/assignment: .*unit 'u'"):
        verify(tied, {"l0": "int4", "l1": "int8"}, never, objective="kl")
    with pytest.raises(InvalidInputError, match="nothing to verify"):
        verify(profile, solve(profile, objective="kl", budgets={"weight_bytes": 1}), never, objective="kl")
    with pytest.raises(InvalidInputError, match="/tolerance: expected at least 0 and below 1, got 2"):
        verify(profile, {"l0": "int4", "l1": "int4"}, never, objective="kl", tolerance=2)


def test_a_plan_that_passes_and_is_of_no_use_is_said_to_be() -> None:
    profile = {
        "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        "layers": [{"name": "up"}, {"name": "down"}],
        "costs": {"kl": {"values": [[0.5, 0.1], [0.3, 0.1]], "tolerable": 1.0}},
        "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
    }
    plan = {"up": "int8", "down": "int4"}
    report = verify(profile, plan, lambda plan: 8.0 * bool(plan), objective="kl")
    assert report.passed
    assert "the plan measures a loss of 8, and 1 is the most that is of use by 'kl'" in as_markdown(report)
    assert verify(profile, plan, lambda plan: 0.5 * bool(plan), objective="kl").notes == ()


def test_uniform_may_use_what_the_plan_leaves_of_its_budget() -> None:
    profile = {
        "formats": {"int2": {"weight_bits": 2}, "int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        "layers": [{"name": name, "parameters": 800} for name in ("up", "down")],
        "costs": {"kl": {"values": [[9.0, 1.0, 0.9], [0.2, 0.1, 0.1]]}},
        "resources": {"weight_bytes": {"values": [[200, 400, 800], [200, 400, 800]], "unit": "byte"}},
    }
    plan = solve(profile, budgets={"weight_bytes": 810}, pin={"down": "int2"})
    assert plan.usage["weight_bytes"].used == 600
    report = verify(profile, plan, lambda given: float(bool(given)), objective="kl")
    uniform = report.rows[1]
    assert (uniform.name, uniform.weight_bytes, report.budgets) == (
        "uniform int4",
        800,
        {"weight_bytes": 810},
    )
    assert uniform.budget_share == pytest.approx(800 / 810)
    page = as_markdown(report)
    assert "| uniform int4 | 98.8% | 1 | 1.000 | 800 |" in page
    assert "within the plan's own budget (weight_bytes at most 810)" in page
    # Without an allocation nobody knows the budget: a plan is then held against what fits into its own bytes.
    table = verify(profile, plan.assignment or {}, lambda given: float(bool(given)), objective="kl")
    assert table.budgets == {"weight_bytes": 600}
    assert table.rows[1].name == "uniform int2"
