"""Bars add up to the whole, begin with the plan's own format, and the least sure layer is on top."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from allocator import InvalidInputError, Stability, stability
from bitalloc.plots import plot_stability
from tests.api.helpers import random_profile
from tests.bitalloc.plots.pictures import drawn, words


@pytest.fixture(scope="module")
def unsure() -> Stability:
    document = random_profile(12)
    values = np.array(document["costs"]["kl"]["values"])
    document["costs"]["kl"]["stderr"] = (0.4 * values).tolist()
    return stability(document, resamples=40, objective="kl", budgets={"effective_bits": 4})


def test_every_bar_is_a_layer_that_changes_and_adds_up_to_the_whole(unsure: Stability) -> None:
    axes = plot_stability(unsure)
    rows = sorted((row for row in unsure.layers if row.kept < 1), key=lambda row: (row.kept, -row.worth))
    assert rows
    assert words(axes.get_yticklabels()) == [
        f"{row.layer.removeprefix('layer.')} → {row.format}" for row in rows
    ]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    for line, row in enumerate(rows):
        mine = [bar for bar in bars if round(bar.get_y() + bar.get_height() / 2) == line]
        assert sum(bar.get_width() for bar in mine) == pytest.approx(100)
        first = min(mine, key=lambda bar: bar.get_x())
        assert first.get_width() == pytest.approx(100 * (row.kept or max(row.shares.values())))
    assert axes.get_xlabel() == "share of 40 resampled tables in which the layer has the format (%)"
    steady = sum(row.kept == 1 for row in unsure.layers)
    assert axes.get_title() == (
        f"the whole plan stays in {unsure.kept:.0%}; {steady} of 12 layers never change"
    )
    assert drawn(axes) > 30


def test_formats_differ_in_hatch_and_shade(unsure: Stability) -> None:
    legend = plot_stability(unsure).get_legend()
    assert legend is not None
    patches = legend.get_patches()
    assert len(patches) > 1
    assert len({patch.get_hatch() for patch in patches}) == len(patches)
    assert len({patch.get_facecolor() for patch in patches}) == len(patches)


def test_only_the_least_sure_layers_are_drawn(unsure: Stability) -> None:
    assert len(plot_stability(unsure, layers=2).get_yticks()) == 2


def test_a_plan_that_never_changes_is_drawn_too(unsure: Stability) -> None:
    rows = tuple(row.model_copy(update={"kept": 1.0, "shares": {row.format: 1.0}}) for row in unsure.layers)
    steady = unsure.model_copy(update={"kept": 1.0, "layers": rows})
    axes = plot_stability(steady, layers=3)
    assert len(axes.get_yticks()) == 3
    assert "12 of 12 layers never change" in axes.get_title()


def test_formats_are_listed_by_number_not_by_letter(unsure: Stability) -> None:
    row = unsure.layers[0].model_copy(
        update={"format": "int8", "shares": {"int16": 0.5, "int8": 0.5}, "kept": 0.5}
    )
    legend = plot_stability(unsure.model_copy(update={"layers": (row,)})).get_legend()
    assert legend is not None
    assert words(legend.get_texts()) == ["int8", "int16"]


def test_no_layers_are_refused(unsure: Stability) -> None:
    with pytest.raises(InvalidInputError, match="expected at least 1, got 0"):
        plot_stability(unsure, layers=0)
