"""Fronts show their plans, in readable units, and nothing between them that no plan delivers."""

from __future__ import annotations

import numpy as np
import pytest

from allocator import InvalidInputError, frontier, load_profile, solve_many, total
from bitalloc.plots import plot_frontier, plot_fronts
from tests.api.helpers import random_profile, tiny
from tests.bitalloc.plots.pictures import drawn, lines, points

BUDGETS = [{"weight_bytes": amount} for amount in (5_000, 6_500, 8_448)]


def test_a_frontier_shows_every_plan_in_kilobytes() -> None:
    front = frontier(tiny(), points=[5_000, 6_500, 8_448])
    uniform = list(solve_many(tiny(), BUDGETS, solver="uniform"))
    axes = plot_frontier(front, {"uniform": uniform})
    found = lines(axes)
    assert set(found) == {"supported plans", "exact plans", "uniform", "knee"}
    assert np.asarray(found["supported plans"].get_xdata()) == pytest.approx(front.spend / 1e3)
    assert points(found["exact plans"]) == [
        (pytest.approx(plan.usage["weight_bytes"].used / 1e3), plan.objective) for plan in front.exact
    ]
    assert np.asarray(found["uniform"].get_ydata()) == pytest.approx([plan.objective for plan in uniform])
    assert found["knee"].get_ydata() == front.objective[front.knee]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("weight_bytes (kB)", "kl (lower is better)")
    assert axes.get_yscale() == "log"
    assert drawn(axes) > 50


def test_values_that_are_not_positive_are_on_a_linear_scale() -> None:
    document = random_profile(4)
    document["costs"]["kl"]["values"][0][0] = -100.0
    assert plot_frontier(frontier(document, objective="kl")).get_yscale() == "linear"


def test_it_draws_into_axes_that_are_given() -> None:
    first = plot_frontier(frontier(tiny()))
    assert plot_frontier(frontier(tiny()), axes=first) is first
    assert len(first.get_lines()) == 4


def test_fronts_price_the_plans_of_every_table_by_one() -> None:
    profile = load_profile(random_profile(12))
    budgets = [{"effective_bits": bits} for bits in (3, 4, 6)]
    plans = {name: list(solve_many(profile, budgets, objective=name)) for name in ("kl", "fisher")}
    axes = plot_fronts(profile, plans, "kl")
    found = lines(axes)
    assert list(found) == ["kl", "fisher"]
    for name, made in plans.items():
        assert points(found[name]) == [
            (pytest.approx(total(profile, "weight_bytes", plan.assignment) / 1e3), pytest.approx(cost))  # type: ignore[arg-type]
            for plan in made
            if (cost := total(profile, "kl", plan.assignment))  # type: ignore[arg-type]
        ]
        assert found[name].get_drawstyle() == "steps-post"
    assert all(
        mine <= theirs
        for (_, mine), (_, theirs) in zip(points(found["kl"]), points(found["fisher"]), strict=True)
    )
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "weight_bytes (kB)",
        "kl of the plan (lower is better)",
    )


def test_answers_without_a_plan_leave_no_point() -> None:
    profile = load_profile(tiny())
    plans = list(solve_many(profile, [{"weight_bytes": 10}, {"weight_bytes": 8_448}]))
    assert len(points(lines(plot_fronts(profile, {"exact": plans}, "kl"))["exact"])) == 1


@pytest.mark.parametrize(("cost", "resource"), [("k1", "weight_bytes"), ("kl", "bytes")])
def test_unknown_tables_are_refused(cost: str, resource: str) -> None:
    with pytest.raises(InvalidInputError, match=r"unknown (cost table|resource)"):
        plot_fronts(load_profile(tiny()), {}, cost, resource)
