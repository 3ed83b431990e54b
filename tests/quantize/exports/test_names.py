"""Patterns for names match the name and nothing else, in the dialects that read them."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.exports.names import anchored, glob_literal, globbed, literal

NAMES = st.text(st.characters(codec="ascii", exclude_characters="\n"), min_size=1, max_size=12)


@given(name=NAMES, other=NAMES)
def test_an_expression_matches_its_name_only(name: str, other: str) -> None:
    assert re.search(anchored(name), name)
    assert literal(anchored(name)) == name
    if other != name:
        assert not re.search(anchored(name), other)


@given(name=NAMES, other=NAMES)
def test_a_shell_pattern_matches_its_name_only(name: str, other: str) -> None:
    assert fnmatch.fnmatchcase(name, globbed(name))
    assert glob_literal(globbed(name)) == name
    assert fnmatch.fnmatchcase(other, globbed(name)) == (other == name)


@pytest.mark.parametrize(
    "pattern", [r"a.b", r"a\d", "a+", "(a|b)", "a[0]", "a|b", r"a\\.b", r"^a\w$", "a{2}", "a$b"]
)
def test_an_expression_for_several_names_is_no_literal(pattern: str) -> None:
    assert literal(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "name"), [(r"a\$", "a$"), (r"^a\\$", "a\\"), ("a-b", "a-b"), (r"a\.b$", "a.b")]
)
def test_an_escaped_expression_is_a_literal(pattern: str, name: str) -> None:
    assert literal(pattern) == name
    assert re.fullmatch(pattern, name)


@pytest.mark.parametrize("pattern", ["*", "a?", "[ab]", "a[!b]", "a["])
def test_a_shell_pattern_for_several_names_is_no_literal(pattern: str) -> None:
    assert glob_literal(pattern) is None
