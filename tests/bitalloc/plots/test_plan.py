"""A strip has one filled cell in each column, where the plan says; shades stand for widths."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from allocator import Allocation, InvalidInputError, Profile, load_profile, solve
from bitalloc.plots import plot_plan, plot_plans
from tests.api.helpers import random_profile, tiny
from tests.bitalloc.plots.pictures import drawn, luminance, words


@pytest.fixture(scope="module")
def planned() -> tuple[Profile, Allocation]:
    profile = load_profile(random_profile(12))
    return profile, solve(profile, objective="kl", budgets={"effective_bits": 4})


def _cells(axes: Axes) -> np.ndarray[Any, Any]:
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def test_every_layer_has_one_dark_cell_at_its_format(planned: tuple[Profile, Allocation]) -> None:
    profile, plan = planned
    axes = plot_plan(profile, plan)
    assert plan.assignment is not None
    formats = words(axes.get_yticklabels())
    assert formats == ["int2-g64", "int4-g64", "int8-g64"]
    filled = _cells(axes).min(axis=-1) < 0.95  # (F, L)
    assert filled.sum(axis=0).tolist() == [1] * 12
    chosen = [formats[row] for row in filled.argmax(axis=0)]
    assert chosen == [plan.assignment[layer.name] for layer in profile.layers]
    assert words(axes.get_xticklabels()) == [str(index) for index in range(12)]
    assert axes.get_title().startswith(f"kl {plan.objective:.4g} (optimal, gap 0); effective_bits ")
    assert drawn(axes) > 20


def test_formats_are_in_the_order_of_their_width() -> None:
    document = tiny()
    document["formats"] = {"wide": {"weight_bits": 8}, "narrow": {"weight_bits": 4}}
    profile = load_profile(document)
    axes = plot_plan(profile, solve(profile, pin={"up": "wide", "down": "narrow"}))
    assert words(axes.get_yticklabels()) == ["narrow", "wide"]
    assert (_cells(axes).min(axis=-1) < 0.95).tolist() == [[False, True], [True, False]]


def test_several_plans_are_one_line_each_with_their_bits(planned: tuple[Profile, Allocation]) -> None:
    profile, plan = planned
    other = solve(profile, objective="fisher", budgets={"effective_bits": 4})
    axes = plot_plans(profile, {"kl": plan, "fisher": other})
    assert words(axes.get_yticklabels()) == ["kl", "fisher"]
    written = {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in axes.texts}
    for row, made in enumerate((plan, other)):
        assert made.assignment is not None
        for column, layer in enumerate(profile.layers):
            bits = profile.formats[made.assignment[layer.name]].weight_bits
            assert written[row, column].get_text() == f"{bits:g}"
    legend = axes.get_legend()
    assert legend is not None
    assert words(legend.get_texts()) == ["int8-g64", "int4-g64", "int2-g64"]
    light = [luminance(patch.get_facecolor()[:3]) for patch in legend.get_patches()]
    assert all(upper > lower for upper, lower in pairwise(light))


def test_words_stand_out_from_their_cells(planned: tuple[Profile, Allocation]) -> None:
    axes = plot_plans(planned[0], {"kl": planned[1]})
    cells = _cells(axes)
    for text in axes.texts:
        column, row = (round(at) for at in text.get_position())
        light, dark = sorted(
            (luminance(cells[row, column]), luminance(text.get_color())), reverse=True
        )  # WCAG contrast
        assert (light + 0.05) / (dark + 0.05) > 3


def test_thousands_of_layers_are_drawn_without_names() -> None:
    profile = load_profile(random_profile(2_000))
    axes = plot_plan(profile, solve(profile, objective="kl", budgets={"effective_bits": 4}))
    assert axes.get_xlabel() == "layer, in the order of the profile (number)"
    assert _cells(axes).shape == (3, 2_000, 3)


def test_answers_without_a_plan_are_refused() -> None:
    profile = load_profile(tiny())
    with pytest.raises(InvalidInputError, match="there is no plan to draw"):
        plot_plan(profile, solve(profile, budgets={"weight_bytes": 1}))


def test_plans_of_another_profile_are_refused(planned: tuple[Profile, Allocation]) -> None:
    with pytest.raises(InvalidInputError, match=r"expected a plan of this profile; it has no .*'up'"):
        plot_plan(load_profile(tiny()), planned[1])


def test_no_plans_are_refused(planned: tuple[Profile, Allocation]) -> None:
    with pytest.raises(InvalidInputError, match="expected at least one plan, got none"):
        plot_plans(planned[0], {})
