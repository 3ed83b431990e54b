"""Everybody can use the page: keyboards, screen readers, dark rooms, and people with keys."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.page.conftest import Heard, settled

NAMELESS = """() => {
    const named = (node) => node.labels?.length || node.ariaLabel || node.getAttribute("aria-labelledby")
        || node.textContent.trim();
    const all = document.querySelectorAll("button, input, select, a[href], [role=region], summary, [tabindex='0']");
    return [...all].filter((node) => !named(node)).map((node) => node.outerHTML.slice(0, 80));
}"""
FOCUSED = """() => {
    const node = document.activeElement;
    const style = getComputedStyle(node.id === "file" ? node.parentElement : node);
    return [node.id || node.tagName, style.outlineStyle, parseFloat(style.outlineWidth)];
}"""
COLOURS = """(names) => {
    const style = getComputedStyle(document.documentElement);
    return names.map((name) => style.getPropertyValue(`--${name}`).trim());
}"""
#: Text on ground; WCAG 2.2 asks for a contrast of 4.5.
READ = [
    ("ink", "bg"), ("ink", "card"), ("soft", "card"), ("soft", "bg"), ("soft", "well"), ("accent", "card"),
    ("accent", "bg"), ("on-accent", "accent"), ("good", "good-bg"), ("good", "card"), ("warn", "warn-bg"),
    ("bad", "bad-bg"),
]  # fmt: skip
#: Marks of the chart on its ground; WCAG 2.2 asks for 3.
SEEN = [(name, "card") for name in ("supported", "greedy", "uniform", "knee", "now")]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_legible(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    for pairs, least in ((READ, 4.5), (SEEN, 3.0)):
        for names in pairs:
            ratio = contrast(*page.evaluate(COLOURS, list(names)))
            assert ratio >= least, f"{names} {scheme}: {ratio:.2f}"


def test_the_charts_follow_when_the_room_goes_dark(loaded: Page) -> None:
    background = "() => getComputedStyle(document.body).backgroundColor"
    pixels = "() => document.querySelector('#front canvas').toDataURL()"
    light = loaded.evaluate(background), loaded.evaluate(pixels)
    loaded.emulate_media(color_scheme="dark")
    dark = loaded.evaluate(background), loaded.evaluate(pixels)
    assert dark[0] == "rgb(14, 19, 25)" != light[0]
    assert dark[1] != light[1]
    loaded.emulate_media(color_scheme="light")


def test_every_control_has_a_name(loaded: Page) -> None:
    for summary in loaded.locator("summary").all():
        summary.click()
    assert loaded.evaluate(NAMELESS) == []
    levels = [
        int(tag[1])
        for tag in loaded.eval_on_selector_all("#work :is(h1,h2,h3)", "all => all.map(n => n.tagName)")
    ]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_works_from_the_keyboard_alone(page: Page) -> None:
    reached: list[str] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        name, outline, width = page.evaluate(FOCUSED)
        assert outline != "none", name
        assert width >= 1, name
        reached.append(name)
        if name == "example":
            break
    assert reached[-1] == "example"
    assert "file" in reached
    page.keyboard.press("Enter")
    settled(page)
    visited = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline, _ = page.evaluate(FOCUSED)
        visited.add(name)
        assert outline != "none" or name == "BODY", name  # past the last control the browser's own bar has it
    assert {
        "budget",
        "amount",
        "to-knee",
        "strip",
        "download",
        "target",
        "export",
        "lint",
        "compare",
    } <= visited


def test_the_strip_is_read_layer_by_layer(loaded: Page) -> None:
    loaded.focus("#strip")
    said = loaded.locator("#strip-says")
    expect(said).to_contain_text("word_embeddings: int")
    loaded.keyboard.press("ArrowRight")
    expect(said).to_contain_text("layer.0.attention.self.query: int")
    loaded.keyboard.press("End")
    expect(said).to_contain_text("layer.5.output.dense: int")
    assert said.get_attribute("aria-live") == "polite"


def test_pictures_have_texts(loaded: Page) -> None:
    expect(loaded.locator("#front-says")).to_contain_text("the knee is at 10.6 MB")
    if not loaded.locator("#front-table").is_visible():
        loaded.get_by_text("The front as a table").click()
    expect(
        loaded.get_by_role("table", name="Best plans at equally spaced budgets").get_by_role("row")
    ).to_have_count(18)
    labels = loaded.eval_on_selector_all("#blocks svg", "all => all.map(n => n.getAttribute('aria-label'))")
    assert len(labels) == 7
    assert all(" kB" in label or " MB" in label for label in labels)


def test_a_key_is_sent_and_kept_nowhere(page: Page, heard: Heard) -> None:
    page.get_by_text("API key", exact=True).click()
    page.fill("#key", "ba_secret")
    page.keyboard.press("Escape")
    page.click("#example")
    settled(page)
    asked = [request for request in heard.requests if "/v1/" in request.url and request.method == "POST"]
    assert asked
    assert {request.headers.get("authorization") for request in asked} == {"Bearer ba_secret"}
    assert page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.reload()
    assert page.input_value("#key") == ""


def test_a_telephone_shows_everything_without_scrolling_sideways(browser: Browser, service: str) -> None:
    with browser.new_context(base_url=service, viewport={"width": 380, "height": 800}) as context:
        page = context.new_page()
        page.goto("/")
        page.click("#example")
        settled(page)
        page.click("#compare")
        page.wait_for_selector("#compared table")
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
