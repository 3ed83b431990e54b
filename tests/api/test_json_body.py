"""Bodies are parsed within limits and without guessing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import InvalidInputError, Profile
from api.errors import InvalidJsonError
from api.workers.json_body import JsonLimits, decoded, parsed, require_shallow
from tests.api.helpers import random_profile

DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(alphabet='\\"[]{},:a\u00e9'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='\\"[{:'), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(DOCUMENTS)
def test_good_documents_come_through(document: object) -> None:
    assert decoded(json.dumps(document).encode(), JsonLimits()) == document


REFUSED = {
    "depth beyond the parser": (b"[" * 5000 + b"]" * 5000, "nested deeper than 64 levels"),
    "depth that nobody closes": (b"[" * 5000, "nested deeper than 64 levels"),
    "depth behind brackets in texts": (b'["]]]]]",' * 300 + b"1" + b"]" * 300, "nested deeper than 64"),
    "a table twice": (b'{"a": {"b": 1}, "c": [], "a": {}}', "the key 'a' twice in one object"),
    "a key twice": (b'{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' twice in one object"),
    "a key twice, once escaped": (b'{"ab": 1, "a\\u0062": 2}', "the key 'ab' twice"),
    "half a surrogate": (b'{"a": "\\ud800"}', "end of hex escape"),
    "half a surrogate in a key": (b'{"\\uDFFF": 1}', "lone leading surrogate"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "has to be UTF-8, and byte 0 is not"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "JSON breaks at line 1 column 1: expected value"),
    "too many digits": (b"[" + b"9" * 5000 + b"]", "number out of range"),
    "nothing": (b"", "JSON breaks at line 1 column 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_is_refused_with_the_reason(name: str) -> None:
    body, words = REFUSED[name]
    with pytest.raises(InvalidJsonError, match=words):
        decoded(body, JsonLimits())


def test_a_body_of_too_many_values_is_refused() -> None:
    with pytest.raises(
        InvalidInputError,
        match=r"expected at most 1000 brackets, commas and colons .* BITALLOC_MAX_JSON_VALUES",
    ):
        decoded(b"[" + b"1," * 1000 + b"1]", JsonLimits(max_json_values=1000))


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert decoded(b'"\\ud83d\\ude00"', JsonLimits()) == "\U0001f600"


@pytest.mark.parametrize("inline", [True, False])
def test_a_profile_of_too_many_rows_or_columns_is_pointed_at(inline: bool) -> None:
    profile = random_profile(6)
    body = json.dumps({"profile": profile} if inline else profile).encode()
    with pytest.raises(InvalidInputError, match="expected at most 5 layers, got 6") as refusal:
        decoded(body, JsonLimits(max_layers=5, max_formats=2))
    where = "/profile" if inline else ""
    assert [fault.pointer for fault in refusal.value.faults] == [f"{where}/layers", f"{where}/formats"]
    decoded(body, JsonLimits(max_layers=6, max_formats=3))


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ('{"a": "1:2", "b": [":", "{"]}', None),
        ('{"a": 1, "a": ":"}', "a"),
        ('{"a:": {"b": 1, "b": 2}}', "b"),
        ('{"\\":": 1, "c": 2, "c": 3}', "c"),
        ('{"a": {"b": 1}, "c": {"b": 2}}', None),
    ],
)
def test_a_key_twice_is_found_wherever_it_is(text: str, twice: str | None) -> None:
    if twice is None:
        assert decoded(text.encode(), JsonLimits()) == json.loads(text)
    else:
        with pytest.raises(InvalidJsonError, match=f"key '{twice}' twice"):
            decoded(text.encode(), JsonLimits())


@given(DOCUMENTS, st.integers(1, 8))
def test_depth_is_counted_level_by_level(document: object, most: int) -> None:
    def depth(node: object) -> int:
        if isinstance(node, list | dict):
            return 1 + max(map(depth, node.values() if isinstance(node, dict) else node), default=0)
        return 0

    if depth(document) <= most:
        require_shallow(document, JsonLimits(max_json_depth=most))
    else:
        with pytest.raises(InvalidJsonError, match=f"nested deeper than {most} levels"):
            require_shallow(document, JsonLimits(max_json_depth=most))


def test_a_body_that_fits_no_model_is_refused_for_its_depth_first() -> None:
    with pytest.raises(InvalidJsonError, match="nested deeper than 64 levels"):
        parsed(Profile, b'{"model": ' + b"[" * 64 + b"]" * 64 + b"}", JsonLimits())
    with pytest.raises(InvalidInputError, match="/model"):
        parsed(Profile, b'{"model": ' + b"[" * 60 + b"]" * 60 + b"}", JsonLimits())


def test_values_in_texts_of_bodies_below_the_limit_are_not_counted() -> None:
    body = b'{"a": "' + b"," * 900 + b'"}'
    assert decoded(body, JsonLimits(max_json_values=1000)) == {"a": "," * 900}
