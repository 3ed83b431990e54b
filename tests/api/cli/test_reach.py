"""Budgets that cannot be kept, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocator import Reach
from api.cli.reach import reached
from tests.api.cli.profile_files import written
from tests.api.conftest import Run
from tests.api.helpers import tiny

SPAN = {"least": 1.0, "most": 9.0, "least_with_others": 2.0, "most_with_others": 8.0}


def _said(**fields: object) -> str:
    return reached("slots", Reach.model_validate(SPAN | {"limit": 5, "at_least": 5} | fields), alone=False)


def test_amounts_that_are_reached_are_called_the_nearest() -> None:
    said = _said(nearest_below=4, nearest_above=6)
    assert said == (
        "slots: asked for at least 5 and at most 5, plans reach 1 to 9; with all else kept: 2 to 8; the nearest that "
        "can be reached: 4 and 6"
    )


def test_amounts_that_are_only_bounds_are_not() -> None:
    said = _said(nearest_below=4, nearest_above=6, bounds=["nearest_below", "nearest_above"])
    assert "the nearest that can be reached" not in said
    assert said.endswith("; no plan comes nearer than 4 and 6, and whether one comes that near is not known")
    said = _said(nearest_below=4, nearest_above=6, bounds=["nearest_above"])
    assert said.endswith(
        "; the nearest that can be reached: 4; no plan comes nearer than 6, and whether one comes that near is not "
        "known"
    )


def test_a_span_that_is_only_a_bound_says_so() -> None:
    assert "to 8 at the widest, which is not proved to be reached" in _said(bounds=["most_with_others"])
    assert "at the widest" not in _said(nearest_above=6, bounds=["nearest_above"])


@pytest.mark.parametrize("amount", ["-1", "-0.5"])
def test_tables_without_a_unit_leave_no_gap_in_messages(bitalloc: Run, tmp_path: Path, amount: str) -> None:
    profile = tiny(resources={"slots": {"values": [[1.0, 2.0]] * 2}})
    done = bitalloc("solve", written(tmp_path, profile), "-b", f"slots={amount}")
    assert done.err == f"error: /budgets/slots: expected at least 0, got {float(amount)}\n"
