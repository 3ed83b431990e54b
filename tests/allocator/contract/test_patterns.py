from __future__ import annotations

import pytest

from allocator.contract.patterns import matching

NAMES = ["block[0].up", "block.0.up", "block.1.up", "head"]


def test_an_exact_name_wins_over_its_reading_as_a_glob() -> None:
    assert matching("block[0].up", NAMES) == [0]


def test_globs_match_whole_names() -> None:
    assert matching("block.?.up", NAMES) == [1, 2]
    assert matching("*", NAMES) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="unknown layer or glob 'hea'; did you mean 'head'"):
        matching("hea", NAMES)


def test_globs_tell_capitals_apart() -> None:
    with pytest.raises(ValueError, match=r"unknown layer or glob 'HEAD\*'"):
        matching("HEAD*", NAMES)
