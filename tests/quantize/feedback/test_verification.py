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
    size = report.rows[0].weight_bytes
    assert size is not None
    for row, solver in zip(report.rows[1:3], ("uniform", "greedy"), strict=True):
        baseline = solve(profile, objective="kl", budgets={"weight_bytes": size}, solver=solver).assignment
        assert baseline is not None
        assert row.loss == loss(baseline) >= report.rows[0].loss
        assert row.weight_bytes is not None
        assert row.weight_bytes <= size
    assert Verification.model_validate_json(report.model_dump_json()) == report


def test_a_plan_that_a_baseline_beats_fails_but_within_the_tolerance() -> None:
    profile, _ = coupled()
    plan = solve(profile, budgets={"effective_bits": 4.0})

    def backwards(given: Mapping[str, str]) -> float:
        return 1.0 if given == plan.assignment else 0.9

    report = verify(profile, plan, backwards, objective="kl")
    assert not report.passed
    assert report.failures[0] == "uniform measures a loss of 0.9 in no more bytes, the plan 1"
    assert "**Failed.**\n\n- uniform measures" in as_markdown(report)
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
