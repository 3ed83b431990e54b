"""What pictures show: their data, labels and units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allocator import frontier, solve_many
from api.plots import plot_frontier, save
from tests.api.helpers import random_profile, tiny

BUDGETS = [{"weight_bytes": amount} for amount in (5_000, 6_500, 8_448)]


def test_a_frontier_shows_every_plan_in_megabytes() -> None:
    front = frontier(tiny(), points=[5_000, 6_500, 8_448])
    uniform = solve_many(tiny(), BUDGETS, solver="uniform")
    axes = plot_frontier(front, {"uniform": uniform})
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert set(lines) == {"supported plans", "exact plans", "uniform", "knee"}
    assert np.asarray(lines["supported plans"].get_xdata()) == pytest.approx(front.spend / 1e6)
    assert np.asarray(lines["exact plans"].get_ydata()) == pytest.approx(
        [plan.objective for plan in front.exact]
    )
    assert np.asarray(lines["uniform"].get_ydata()) == pytest.approx([plan.objective for plan in uniform])
    assert lines["knee"].get_ydata() == front.objective[front.knee]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("weight_bytes (MB)", "kl (lower is better)")
    assert axes.get_yscale() == "log"


def test_values_that_are_not_positive_are_on_a_linear_scale() -> None:
    document = random_profile(4)
    document["costs"]["kl"]["values"][0][0] = -100.0
    assert plot_frontier(frontier(document, objective="kl")).get_yscale() == "linear"


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_is_written_as_its_ending_says(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"front.{ending}"
    save(plot_frontier(frontier(tiny())), path)
    start = path.read_bytes()[:5]
    assert start == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[ending]
