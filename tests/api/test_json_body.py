"""Bodies are measured before they are parsed, and parsed without guessing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import InvalidInputError
from api.workers import json_shape as module
from api.workers.errors import InvalidJsonError
from api.workers.json_body import decoded
from api.workers.json_limits import JsonLimits
from api.workers.json_shape import JsonShape, json_shape
from tests.api.helpers import random_profile

MANY = 10**9


def slow_shape(text: bytes) -> JsonShape:
    """Character by character, as one would do it by hand."""
    inside = escaped = False
    level = depth = colons = 0
    values = 1
    for code in text:
        character = chr(code)
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        else:
            level += (character in "[{") - (character in "]}")
            depth = max(depth, level)
            values += character in "[{,:"
            colons += character == ":"
    return JsonShape(depth, values, colons)


DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(alphabet='\\"[]{},:a\u00e9'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='\\"[{:'), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(DOCUMENTS, st.integers(1, 9))
def test_the_shape_is_that_of_a_character_by_character_reading(document: object, block: int) -> None:
    text = json.dumps(document).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", block)  # so that states are carried over at every place
        assert json_shape(text, MANY, MANY) == slow_shape(text)


@pytest.mark.parametrize("text", [b"", b"]]]]", b'"', b"\\", b'"\\', b'"[[[' * 9, b"[" * 5000])
def test_what_is_not_json_has_a_shape_too(text: bytes) -> None:
    shape = json_shape(text, MANY, MANY)
    assert shape.depth >= 0
    assert shape.values >= 1


def test_counting_stops_at_a_maximum() -> None:
    assert json_shape(b"[" * 2**22, 64, MANY).depth <= 2**20


@given(DOCUMENTS)
def test_good_documents_come_through(document: object) -> None:
    assert decoded(json.dumps(document).encode(), JsonLimits()) == document


def test_a_document_has_fewer_values_than_were_counted() -> None:
    profile = random_profile(50)
    shape = json_shape(json.dumps(profile).encode(), MANY, MANY)
    assert shape.values > 50 * 3 * 4


REFUSED = {
    "depth": (b"[" * 65 + b"]" * 65, "nested deeper than 64 levels"),
    "depth behind brackets in texts": (b'["]]]]]",' * 65 + b"1" + b"]" * 65, "nested deeper than 64"),
    "a key twice": (b'{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' twice in one object"),
    "a key twice, once escaped": (b'{"ab": 1, "a\\u0062": 2}', "the key 'ab' twice"),
    "half a surrogate": (b'{"a": "\\ud800"}', "end of hex escape"),
    "half a surrogate in a key": (b'{"\\uDFFF": 1}', "lone leading surrogate"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "has to be UTF-8, and byte 0 is not"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "JSON breaks at character 0: Unexpected UTF-8 BOM"),
    "too many digits": (b"[" + b"9" * 5000 + b"]", "number out of range"),
    "nothing": (b"", "JSON breaks at character 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_is_refused_with_the_reason(name: str) -> None:
    body, words = REFUSED[name]
    with pytest.raises(InvalidJsonError, match=words):
        decoded(body, JsonLimits())


def test_a_body_of_too_many_values_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"expected at most 1000 values .* BITALLOC_MAX_JSON_VALUES"):
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
    "more", ["", " " * 5_000]
)  # short bodies are counted, longer ones read bracket by bracket
@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ('{"a": "1:2", "b": [":", "{"]}', None),
        ('{"a": 1, "a": ":"}', "a"),
        ('{"a:": {"b": 1, "b": 2}}', "b"),
        ('{"\\":": 1, "c": 2, "c": 3}', "c"),
    ],
)
def test_colons_in_texts_neither_hide_nor_make_a_key_twice(text: str, twice: str | None, more: str) -> None:
    body = (text + more).encode()
    if twice is None:
        assert decoded(body, JsonLimits()) == json.loads(text)
    else:
        with pytest.raises(InvalidJsonError, match=f"key '{twice}' twice"):
            decoded(body, JsonLimits())


def test_short_bodies_are_held_to_the_limits_too() -> None:
    limits = JsonLimits(max_json_depth=3, max_json_values=10)
    assert decoded(b'[[["[[[[ text"]]]', limits) == [[["[[[[ text"]]]
    with pytest.raises(InvalidJsonError, match="nested deeper than 3 levels"):
        decoded(b"[[[[1]]]]", limits)
    with pytest.raises(InvalidInputError, match="at most 10 values"):
        decoded(b"[1,2,3,4,5,6,7,8,9,10,11]", limits)
