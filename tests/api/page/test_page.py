"""The page in a real browser: dropping, dragging, comparing, taking away."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from allocator import Allocation, Profile, frontier, load_profile, plan_after, solve
from allocator.analysis.difference import differing
from allocator.analysis.rank_agreement import agreement
from quantize.exports import EXPORTS, export
from quantize.lint import RUNTIMES, lint_plan
from tests.api.helpers import random_profile
from tests.api.page.conftest import MINILM, Heard, settled

OBJECTIVE = "embedding_distance"
NEXT_FRAME = """async () => {
    for (let n = 0; n < 2; n += 1) await new Promise(requestAnimationFrame);
    return document.querySelector("#proof").textContent;
}"""


@pytest.fixture(scope="module")
def minilm() -> Profile:
    return load_profile(MINILM)


def drop(page: Page, name: str, text: str) -> None:
    """Drop a file, the way a hand does: through an event that carries it."""
    make = """([name, text]) => {
        const carried = new DataTransfer();
        carried.items.add(new File([text], name, { type: "application/json" }));
        return carried;
    }"""
    page.dispatch_event("#drop", "drop", {"dataTransfer": page.evaluate_handle(make, [name, text])})


def set_budget(page: Page, text: str) -> None:
    page.fill("#amount", text)
    page.press("#amount", "Enter")
    settled(page)


def downloads(page: Page, button: str) -> dict[str, str]:
    with page.expect_download() as waiting:
        page.click(button)
    item = waiting.value
    return {item.suggested_filename: Path(item.path()).read_text("utf-8")}


def plan_shown(page: Page) -> dict[str, str]:
    rows = page.locator("#plan-table tbody tr").all()
    cells = [row.locator("th, td").all_text_contents() for row in rows]
    return {name: chosen for name, chosen, *_ in cells}


def test_the_page_lets_nothing_in_from_elsewhere(http: httpx2.Client) -> None:
    for path in ("/", "/page/main.js", "/page/vendor/uplot-1.6.32.min.js"):
        answer = http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert http.head("/").status_code == 200
    assert http.get("/page/../settings.py").status_code == 404
    assert http.get("/page/none.js").status_code == 404


def test_a_visitor_is_told_what_to_do(page: Page) -> None:
    expect(page).to_have_title("bitalloc")
    expect(page.get_by_role("heading", level=1)).to_have_text("See what every byte buys")
    expect(page.get_by_label("Drop a profile here")).to_be_attached()
    expect(page.locator("#work")).to_be_hidden()


def test_a_dropped_profile_shows_its_front_and_the_plan_at_the_knee(page: Page, minilm: Profile) -> None:
    drop(page, "minilm.json", MINILM.read_text())
    settled(page)
    front = frontier(minilm, objective=OBJECTIVE)
    plan = solve(minilm, objective=OBJECTIVE, budgets={"weight_bytes": float(front.spend[front.knee])})
    expect(page.get_by_role("heading", level=1)).to_have_text("all-MiniLM-L6-v2")
    expect(page.locator("#proof")).to_have_text("proved optimal")
    assert plan_shown(page) == plan.assignment == plan_after(front, front.knee)
    assert page.locator("#front canvas").count() == 1
    said = sorted(plan.notes, key=lambda note: note.severity != "warning")
    assert page.locator("#notes li").all_text_contents() == [str(note) for note in said] != []
    assert page.locator("#legend li").all_text_contents() == [
        "best plans", "uniform", "greedy", "knee", "this plan",
    ]  # fmt: skip


def test_a_chosen_file_is_as_good_as_a_dropped_one(page: Page) -> None:
    page.set_input_files("#file", MINILM)
    settled(page)
    expect(page.locator("#facts")).to_have_text("37 layers, 5 formats")


def test_what_was_stored_can_be_picked(loaded: Page, page: Page) -> None:
    assert loaded.url == page.url  # the other visitor stored it
    page.get_by_role("button", name="all-MiniLM-L6-v2").first.click()
    settled(page)
    expect(page.locator("#model")).to_have_text("all-MiniLM-L6-v2")


def test_the_slider_moves_the_plan_at_once_and_then_proves_it(loaded: Page, minilm: Profile) -> None:
    slider = loaded.locator("#budget")
    slider.focus()
    before = slider.get_attribute("aria-valuetext")
    for _ in range(3):
        loaded.keyboard.press("PageUp")
    assert slider.get_attribute("aria-valuetext") != before
    assert loaded.evaluate(NEXT_FRAME) == "on the front"  # no answer was waited for
    settled(loaded)
    expect(loaded.locator("#proof")).to_have_text("proved optimal")
    front = frontier(minilm, objective=OBJECTIVE)
    position = int(slider.input_value())
    budget = float(front.spend[0] + (front.spend[-1] - front.spend[0]) * position / 1000)
    plan = solve(minilm, objective=OBJECTIVE, budgets={"weight_bytes": budget})
    assert plan_shown(loaded) == plan.assignment
    expect(loaded.get_by_role("status")).to_contain_text("proved optimal")


@pytest.mark.parametrize("where", ["#front .u-over", "#budget"])
def test_dragging_moves_the_budget(loaded: Page, where: str) -> None:
    before = loaded.input_value("#budget")
    box = loaded.locator(where).bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    seen: list[str] = []
    loaded.mouse.move(box["x"] + box["width"] * 0.3, middle)
    loaded.mouse.down()
    for share in (0.4, 0.5, 0.6):
        loaded.mouse.move(box["x"] + box["width"] * share, middle)
        seen.append(loaded.input_value("#budget"))
    loaded.mouse.up()
    assert before not in seen
    assert all(int(first) < int(second) for first, second in pairwise(seen))
    assert 480 < int(seen[1]) < 520
    settled(loaded)


def test_the_slider_lies_under_the_front(loaded: Page) -> None:
    set_budget(loaded, "20 MB")
    line = loaded.locator("#front .now-line").bounding_box()
    slider = loaded.locator("#budget").bounding_box()
    assert line is not None
    assert slider is not None
    share = int(loaded.input_value("#budget")) / 1000
    thumb = slider["x"] + 8 + share * (slider["width"] - 16)
    assert abs(line["x"] + 1 - thumb) < 3


def test_a_budget_can_be_typed_with_a_unit(loaded: Page, minilm: Profile) -> None:
    set_budget(loaded, "12 MiB")
    plan = solve(minilm, objective=OBJECTIVE, budgets={"weight_bytes": "12 MiB"})
    assert plan_shown(loaded) == plan.assignment
    assert loaded.input_value("#amount") == "12.58 MB"


def test_the_same_front_is_walked_here_and_in_the_library(page: Page, minilm: Profile) -> None:
    front = frontier(minilm, objective="fisher")
    document = {
        "start": front.start.tolist(),
        "step": front.step.tolist(),
        "layer": front.layer.tolist(),
        "format": front.format.tolist(),
        "spend": front.spend.tolist(),
    }
    walk = """async (front) => {
        const { planAfter, stepsWithin } = await import("/page/front.js");
        return front.spend.map((spend, at) =>
            [stepsWithin(front, spend), stepsWithin(front, spend - 1), [...planAfter(front, at)]]);
    }"""
    formats = list(front.formats)
    for at, (within, below, plan) in enumerate(page.evaluate(walk, document)):
        assert (within, below) == (at, at - 1)
        assert [formats[column] for column in plan] == list(plan_after(front, at).values())


def test_a_plan_that_becomes_a_job_is_waited_for(
    loaded: Page, heard_of_loaded: Heard, minilm: Profile
) -> None:
    loaded.set_extra_http_headers({"prefer": "respond-async"})
    set_budget(loaded, "14 MB")
    loaded.set_extra_http_headers({})
    assert any("/v1/jobs/" in request.url for request in heard_of_loaded.requests)
    assert plan_shown(loaded) == solve(minilm, objective=OBJECTIVE, budgets={"weight_bytes": 14e6}).assignment


def test_stability_is_shown_where_there_are_standard_errors(loaded: Page) -> None:
    set_budget(loaded, "12.5 MB")
    expect(loaded.locator("#sure-now")).to_contain_text("of 37 layers are firm")
    assert loaded.locator("#sure meter").count() >= 1
    heads = [
        text.replace("\u200b", "") for text in loaded.locator("#plan-table thead th").all_text_contents()
    ]
    assert heads == ["layer", "format", OBJECTIVE, "spend", "kept"]


def test_tables_without_standard_errors_say_so(page: Page) -> None:
    drop(page, "random.json", json.dumps(random_profile(8)))
    settled(page)
    expect(page.locator("#sure")).to_contain_text("The table kl has no standard errors")


def test_other_objectives_and_resources_have_fronts_of_their_own(page: Page) -> None:
    profile = random_profile(12)
    drop(page, "random.json", json.dumps(profile))
    settled(page)
    page.select_option("#objective", "fisher")
    settled(page)
    page.select_option("#resource", "latency")
    settled(page)
    front = frontier(profile, "latency", objective="fisher")
    assert plan_shown(page) == plan_after(front, front.knee)
    expect(page.locator("#blocks-title")).to_have_text("latency by block")
    page.select_option("#resource", "effective_bits")
    settled(page)
    assert page.input_value("#amount").endswith(" bit")


def test_two_cost_tables_are_compared(loaded: Page, minilm: Profile) -> None:
    set_budget(loaded, "12 MB")
    loaded.select_option("#first", "embedding_distance")
    loaded.select_option("#second", "fisher")
    loaded.click("#compare")
    plans = [
        solve(minilm, objective=name, budgets={"weight_bytes": 12e6})
        for name in ("embedding_distance", "fisher")
    ]
    differences = differing(minilm, plans[0].assignment or {}, plans[1].assignment or {})
    ranks = agreement("fisher", minilm.costs["fisher"], minilm.costs["embedding_distance"])
    summary = loaded.locator("#compared p").first
    expect(summary).to_contain_text(f"The plans agree on {37 - len(differences)} of 37 layers.")
    expect(summary).to_contain_text(f"τ = {ranks.kendall:.2f}")
    rows = loaded.get_by_role("region", name="Layers that differ").locator("tbody tr")
    assert rows.count() == len(differences) > 0
    assert loaded.locator("#compared td.better").count() >= 2


def test_the_plan_can_be_downloaded(loaded: Page, minilm: Profile) -> None:
    set_budget(loaded, "11 MB")
    found = downloads(loaded, "#download")
    plan = Allocation.model_validate_json(found["plan.json"])  # as the command reads it
    assert plan.assignment == solve(minilm, objective=OBJECTIVE, budgets={"weight_bytes": 11e6}).assignment
    assert plan.certificate is not None


def test_a_download_does_not_need_the_slider_to_rest(loaded: Page) -> None:
    loaded.fill("#amount", "9 MB")
    loaded.press("#amount", "Enter")
    plan = Allocation.model_validate_json(downloads(loaded, "#download")["plan.json"])
    assert plan.usage["weight_bytes"].limit == pytest.approx(9e6)


def test_every_export_is_offered_and_one_is_downloaded(loaded: Page) -> None:
    assert loaded.locator("#target option").all_text_contents() == list(EXPORTS)
    loaded.select_option("#target", "mlx")
    files = downloads(loaded, "#export")
    done = export(plan_shown(loaded), "mlx")
    assert files == dict(done.files)
    expect(loaded.locator("#taken")).to_contain_text("config.json downloaded.")
    assert loaded.locator("#taken p").count() == 1 + len({(loss.wanted, loss.reason) for loss in done.losses})


def test_a_runtime_says_whether_it_would_load_the_plan(loaded: Page) -> None:
    assert loaded.locator("#runtime option").all_text_contents() == list(RUNTIMES)
    loaded.select_option("#runtime", "vllm")
    loaded.click("#lint")
    findings = lint_plan(plan_shown(loaded), "vllm")
    expect(loaded.locator("#taken p").first).to_contain_text("vllm would not load it")
    assert loaded.locator("#taken p").count() == 1 + len({finding.rule for finding in findings})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "broken.json is not JSON"),
        ('{"kl": 1}', "This JSON is no profile"),
        ("null", "This JSON is no profile"),
        (json.dumps(random_profile(3) | {"costs": {"kl": {"values": [[1, 2, 3]]}}}), "/costs/kl/values"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    page: Page, heard: Heard, text: str, words: str
) -> None:
    heard.expected = True  # the browser logs every answer of 422
    drop(page, "broken.json", text)
    expect(page.get_by_role("alert")).to_contain_text(words)


def test_names_are_never_read_as_markup(page: Page) -> None:
    profile = random_profile(4)
    profile["model"] = "<img src=x onerror=alert(1)>"
    profile["layers"][0]["name"] = "<script>alert(1)</script>"
    drop(page, "odd.json", json.dumps(profile))
    settled(page)
    expect(page.locator("#model")).to_have_text(profile["model"])
    assert page.locator("main script, main img").count() == 0
