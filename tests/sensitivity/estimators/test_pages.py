"""Every estimator has its page, and the pages say what they must."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensitivity import estimators

PAGES = Path(__file__).parents[3] / "docs" / "estimators"


@pytest.mark.parametrize(
    "name", [name for name in estimators.__all__ if name.islower() and name != "relevance"]
)
def test_every_estimator_is_in_the_index(name: str) -> None:
    assert f"`{name}`" in (PAGES / "index.md").read_text("utf-8")


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_every_page_says_cost_needs_when_and_source(page: Path) -> None:
    if page.stem != "index":
        text = page.read_text("utf-8").lower()
        assert [word for word in ("cost", "needs", "when", "source") if word not in text] == []
