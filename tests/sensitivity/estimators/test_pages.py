"""Every estimator has its page, and the pages say what they must."""

from __future__ import annotations

from pathlib import Path

import pytest

import sensitivity
from sensitivity import estimators

PAGES = Path(__file__).parents[3] / "docs" / "estimators"
#: A file of the folder that is named after the function in it is an estimator.
NAMES = sorted(
    {path.stem for path in Path(str(estimators.__file__)).parent.glob("*.py")} & set(sensitivity.__all__)
)


def test_the_names_are_found() -> None:
    assert set(estimators.ESTIMATORS) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_estimator_is_in_the_index(name: str) -> None:
    assert f"`{name}`" in (PAGES / "index.md").read_text("utf-8")
