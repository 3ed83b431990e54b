"""A comparison shows the loss of every table's plan at every budget, in percent, and the rank agreement."""

from __future__ import annotations

import pytest

from allocator import InvalidInputError, load_profile
from allocator.analysis.table_comparison import Comparison, compare_tables
from bitalloc.plots import plot_comparison
from tests.api.helpers import random_profile
from tests.bitalloc.plots.pictures import drawn, lines, words

BUDGETS = [{"effective_bits": bits} for bits in (3, 4)]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    document = random_profile(15)
    document["costs"]["twin"] = document["costs"]["kl"]
    return compare_tables(load_profile(document), reference="kl", budgets=BUDGETS)


def test_every_loss_is_a_marker_on_its_tables_line(comparison: Comparison) -> None:
    axes = plot_comparison(comparison)
    found = lines(axes)
    for budget in (3, 4):
        values = found[f"effective_bits {budget}"]
        expected = [
            100 * plan.excess
            for plan in comparison.plans
            if plan.table != "kl" and plan.budgets == {"effective_bits": budget} and plan.excess is not None
        ]
        assert list(values.get_xdata()) == pytest.approx(expected)
        assert [round(line) for line in values.get_ydata()] == [0, 1]
    taus = {item.table: item.kendall_of_layers for item in comparison.agreements}
    assert words(axes.get_yticklabels()) == [f"{name} (τ = {tau:.2f})" for name, tau in taus.items()]
    assert taus["twin"] == 1
    assert axes.get_xlabel() == "kl of the plan above that of the best plan (%)"
    assert drawn(axes) > 30


def test_large_losses_are_on_a_scale_that_keeps_the_small_ones_apart(comparison: Comparison) -> None:
    assert max(plan.excess or 0 for plan in comparison.plans) > 0.5
    axes = plot_comparison(comparison)
    assert axes.get_xscale() == "symlog"
    assert (
        axes.get_xlim()[0] < 0 < 100 * max(plan.excess or 0 for plan in comparison.plans) < axes.get_xlim()[1]
    )


def test_a_table_that_is_constant_has_no_rank() -> None:
    document = random_profile(4)
    document["costs"]["fisher"]["values"] = [[1.0, 1.0, 1.0]] * 4
    axes = plot_comparison(compare_tables(load_profile(document), reference="kl", budgets=BUDGETS[:1]))
    assert words(axes.get_yticklabels()) == ["fisher"]


def test_nothing_to_compare_is_refused(comparison: Comparison) -> None:
    alone = Comparison("kl", (), comparison.plans[:1])
    with pytest.raises(InvalidInputError, match="no table but the reference leads to a plan"):
        plot_comparison(alone)
