"""Budgets that a person types mean on the page what they mean in a request, and what cannot be had is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from allocator import load_profile, solve
from tests.api.helpers import random_profile
from tests.api.page.conftest import Heard, settled
from tests.api.page.test_page import drop

SLOW_FRONTS = """() => {
    const plain = window.fetch;
    const later = (made) => new Promise((resolve) => { setTimeout(() => resolve(made()), 2500); });
    window.fetch = (path, ...rest) =>
        path.includes("frontiers") ? later(() => plain(path, ...rest)) : plain(path, ...rest);
}"""


def timed_profile() -> dict[str, Any]:
    """A profile with a latency in microseconds, beside its bytes."""
    profile = random_profile(6, 7)
    profile["resources"]["latency_us"] = {
        "values": [[500.0, 800.0, 1100.0]] * 6,
        "unit": "us",
        "constant": 100,
    }
    return profile


@pytest.fixture
def timed(page: Page) -> Page:
    drop(page, "timed.json", json.dumps(timed_profile()))
    settled(page)
    page.select_option("#resource", "latency_us")
    settled(page)
    return page


def ask(page: Page, text: str) -> None:
    page.fill("#amount", text)
    page.press("#amount", "Enter")


@pytest.mark.parametrize(
    ("text", "budget_us"), [("4.7 ms", 4700), ("4700", 4700), ("4700 us", 4700), ("0.0047 s", 4700)]
)
def test_typed_units_are_those_of_the_api(timed: Page, text: str, budget_us: float) -> None:
    objective = timed.input_value("#objective")
    plan = solve(load_profile(timed_profile()), objective=objective, budgets={"latency_us": text})
    assert plan.usage["latency_us"].limit == budget_us
    ask(timed, text)
    settled(timed)
    expect(timed.locator("#amount")).to_have_value("4700 us")
    rows = timed.locator("#plan-table tbody tr").all()
    assert [row.locator("th, td").nth(1).text_content() for row in rows] == list(
        (plan.assignment or {}).values()
    )


@pytest.mark.parametrize("text", ["1,700", "four", "12 parsecs", "3 MB"])
def test_what_cannot_be_read_is_refused_in_the_words_of_the_api(timed: Page, heard: Heard, text: str) -> None:
    heard.expected = True  # the browser logs every answer that is not a success
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - its text is what the page must show
        solve(
            load_profile(timed_profile()),
            objective=timed.input_value("#objective"),
            budgets={"latency_us": text},
        )
    ask(timed, text)
    expect(timed.locator("#problem")).to_contain_text(repr(text))
    assert repr(text) in str(refused.value)
    expect(timed.locator("#amount")).to_have_value(text)  # still there to be mended


def test_a_budget_that_no_plan_keeps_is_not_moved_in_silence(timed: Page) -> None:
    ask(timed, "1.5 ms")
    expect(timed.locator("#problem")).to_contain_text("No plan keeps latency_us at most 1,500 us")
    expect(timed.locator("#problem")).to_contain_text("The least that any plan spends is 3,100 us")
    expect(timed.locator("#amount-says")).to_contain_text("less than any plan spends")


def test_a_budget_beyond_the_best_plan_stays_as_typed(timed: Page) -> None:
    ask(timed, "1 s")
    settled(timed)
    expect(timed.locator("#amount")).to_have_value("1000000 us")
    expect(timed.locator("#amount-says")).to_contain_text("more than the best plan spends")


def test_no_objective_is_traded_against_itself(page: Page) -> None:
    profile = random_profile(4, 1)
    profile["resources"] = {}
    profile["costs"] = {name: next(iter(profile["costs"].values())) for name in ("kl", "fisher")}
    drop(page, "costs.json", json.dumps(profile))
    settled(page)
    assert page.input_value("#objective") == "kl"
    assert page.locator("#resource option").all_text_contents() == ["fisher"]
    page.select_option("#objective", "fisher")
    settled(page)
    assert page.locator("#resource option").all_text_contents() == ["kl"]


def test_a_profile_with_nothing_to_trade_is_refused_with_what_to_add(page: Page) -> None:
    profile = random_profile(4, 1)
    profile["resources"] = {}
    profile["costs"] = {"kl": next(iter(profile["costs"].values()))}
    drop(page, "one.json", json.dumps(profile))
    expect(page.locator("#problem")).to_contain_text("add a resource such as weight_bytes")


def test_long_work_shows_that_it_goes_on(page: Page) -> None:
    page.evaluate(SLOW_FRONTS)
    drop(page, "timed.json", json.dumps(timed_profile()))
    expect(page.locator("#busy")).to_have_text("Computing the front … 1 s", timeout=10_000)
    settled(page)
    expect(page.locator("#busy")).to_be_hidden()
