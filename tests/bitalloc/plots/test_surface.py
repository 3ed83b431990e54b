"""A surface shows every unbeaten plan at what it spends, and which budget holds it back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from allocator import InvalidInputError, Surface, surface
from bitalloc.plots import plot_surface
from bitalloc.plots.surface import binding
from tests.api.helpers import random_profile
from tests.bitalloc.plots.pictures import drawn, lines, points

AXES = ("weight_bytes", "latency")


@pytest.fixture(scope="module")
def crossed() -> Surface:
    document: dict[str, Any] = random_profile(12)
    values = np.array(document["resources"]["latency"]["values"])
    shuffled = np.random.default_rng(1).permuted(values, axis=1)
    document["resources"]["latency"]["values"] = shuffled.tolist()
    return surface(document, AXES, points=(5, 5), objective="kl")


def test_every_plan_is_a_dot_at_what_it_spends_shaded_by_its_objective(crossed: Surface) -> None:
    axes = plot_surface(crossed)
    dots = {
        (*map(float, place), float(value))
        for group in axes.collections
        for place, value in zip(group.get_offsets(), group.get_array(), strict=True)  # type: ignore[arg-type,call-overload]
    }
    expected = [
        (plan.usage["weight_bytes"].used / 1e3, plan.usage["latency"].used, plan.objective)
        for plan in crossed.points
    ]
    assert np.array(sorted(dots)) == pytest.approx(np.array(sorted(expected)))  # type: ignore[arg-type]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("weight_bytes (kB)", "latency (µs)")
    figure = axes.get_figure(root=True)
    assert figure is not None
    assert [other.get_ylabel() for other in figure.axes if other is not axes] == ["kl"]
    assert drawn(axes) > 50


def test_shapes_say_which_budget_binds(crossed: Surface) -> None:
    counted = Counter(binding(plan, AXES) for plan in crossed.points)
    assert len(counted) >= 3
    axes = plot_surface(crossed)
    assert len(axes.collections) == len(counted)
    assert sorted(len(group.get_offsets()) for group in axes.collections) == sorted(counted.values())
    legend = axes.get_legend()
    assert legend is not None
    named = {text.get_text() for text in legend.get_texts()}
    assert {f"{name} bind{'' if ' and ' in name else 's'}" for name in counted} <= named


def test_a_plan_under_a_binding_budget_gains_from_more_of_it(crossed: Surface) -> None:
    free = max(crossed.points, key=lambda plan: sum(usage.used for usage in plan.usage.values()))
    assert binding(free, AXES) == "neither"
    for plan in crossed.points:
        for name in AXES:
            assert (name in binding(plan, AXES)) == ((plan.usage[name].shadow_price or 0) > 0)


def test_pairs_of_budgets_that_no_plan_keeps_are_crossed_out(crossed: Surface) -> None:
    assert crossed.impossible
    crosses = points(lines(plot_surface(crossed))["no plan keeps both"])
    assert np.array(crosses) == pytest.approx(np.array(crossed.impossible) / [1e3, 1.0])


def test_a_surface_without_plans_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no plan keeps any of the budgets"):
        plot_surface(Surface(AXES, (), (), ((1.0, 1.0),), ()))
