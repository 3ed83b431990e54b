"""A real browser on the real service."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.conftest import ROOT

MINILM = ROOT / "examples" / "minilm.json"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _chromium() -> str:
    found = os.environ.get("BITALLOC_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        need = "the tests of the page need Chromium: apt-get install chromium, or set BITALLOC_CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(need)
        pytest.skip(need)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; gone before others' tests, for Playwright occupies the event loop of the thread."""
    path = _chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield running
        running.close()


@dataclass
class Heard:
    """What a page said and asked for.

    Attributes:
        errors: Messages of errors on the console, and errors that nobody caught.
        requests: Every request that was made.
        expected: Whether errors on the console belong to the test.
    """

    errors: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    expected: bool = False


@pytest.fixture
def heard() -> Heard:
    """What the page of this test says; filled while it runs."""
    return Heard()


@pytest.fixture
def page(browser: Browser, service: str, heard: Heard) -> Iterator[Page]:
    """The page, as a new visitor sees it."""
    with visiting(browser, service, heard) as page:
        yield page


@pytest.fixture(scope="module")
def heard_of_loaded() -> Heard:
    """What the page that a module shares says."""
    return Heard()


@pytest.fixture(scope="module")
def loaded(browser: Browser, service: str, heard_of_loaded: Heard) -> Iterator[Page]:
    """One page with the example for the tests of a module, which leave it as usable as they found it."""
    with visiting(browser, service, heard_of_loaded) as page:
        page.click("#example")
        settled(page)
        yield page


@contextmanager
def visiting(browser: Browser, service: str, heard: Heard) -> Iterator[Page]:
    """Open the page; at the end no error may be left on its console, and no other host have been asked."""
    with browser.new_context(base_url=service, viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(20_000)
        page = context.new_page()

        def console(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                heard.errors.append(message.text)

        page.on("console", console)
        page.on("pageerror", lambda error: heard.errors.append(str(error)))
        page.on("request", lambda request: heard.requests.append(request))
        page.goto("/")
        yield page
    if not heard.expected:
        assert heard.errors == []
    hosts = {urlsplit(request.url).netloc for request in heard.requests if request.url.startswith("http")}
    assert hosts == {urlsplit(service).netloc}


def settled(page: Page) -> None:
    """Wait until the front has its marks, and the plan for the budget its proof and its reasons."""
    page.wait_for_selector("body[data-settled='yes'][data-marked='yes']")
