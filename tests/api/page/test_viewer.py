"""The API is shown, and tried, without the internet."""

from __future__ import annotations

import re

import httpx2
import pytest
from playwright.sync_api import Browser

from tests.api.helpers import problem_of


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_pages_and_their_files_come_from_the_service(http: httpx2.Client, path: str) -> None:
    page = http.get(path)
    assert "http" not in page.text
    assert "http" not in page.headers["content-security-policy"]
    files = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert files
    for file in files:
        answer = http.get(file)
        assert answer.status_code == 200, file
        assert answer.headers["content-type"].startswith(("text/javascript", "text/css"))


def test_other_files_are_not_served(http: httpx2.Client) -> None:
    problem_of(http.get("/viewer/core.py"), 404)
    problem_of(http.get("/viewer/..%2fcore.py"), 404)


@pytest.mark.parametrize(
    ("path", "heading"), [("/docs", ".info .title"), ("/redoc", "h1:has-text('bitalloc')")]
)
def test_the_document_is_shown_and_no_other_host_is_asked(
    browser: Browser, service: str, path: str, heading: str
) -> None:
    with browser.new_context(base_url=service) as context:
        context.set_default_timeout(20_000)
        page = context.new_page()
        asked: list[str] = []
        errors: list[str] = []
        page.on("requestfinished", lambda request: asked.append(request.url))  # the policy stops ReDoc's logo
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path)
        page.wait_for_selector(heading)
        assert "bitalloc" in page.inner_text(heading)
        assert "/v1/allocations" in page.content() or "Plan a model" in page.content()
        assert errors == []
        assert [url for url in asked if not url.startswith((service, "blob:", "data:"))] == []


def test_a_request_can_be_tried(browser: Browser, service: str) -> None:
    with browser.new_context(base_url=service) as context:
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.goto("/docs#/operation/get_healthz")
        page.click("#operations-operation-get_healthz button.execute")
        page.wait_for_selector(".live-responses-table .response-col_status")
        assert "200" in page.inner_text(".live-responses-table tbody td.response-col_status")
