"""A text that names a file is a path, one that begins with ``{`` is JSON, and anything else says which was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator import Allocation, InvalidInputError, load_plan, load_profile, solve
from tests.allocator.profiles import profile_json

PLAN = {"up": "int8", "down": "int4"}


def test_a_profile_is_read_from_every_form_it_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(profile_json())
    (tmp_path / "profile.json").write_text(text)
    monkeypatch.chdir(tmp_path)
    expected = load_profile(profile_json())
    path = tmp_path / "profile.json"
    for source in (
        expected,
        profile_json(),
        text,
        f"\n {text}",
        text.encode(),
        path,
        str(path),
        "profile.json",
    ):
        assert load_profile(source) == expected
    assert solve("profile.json").profile_sha256 == expected.digest()


def test_a_plan_is_read_from_every_form_it_comes_in(tmp_path: Path) -> None:
    allocation = solve(profile_json())
    text = allocation.model_dump_json()
    stored = json.dumps(json.loads(text) | {"id": "0" * 32})
    path = tmp_path / "plan.json"
    path.write_text(stored)
    for source in (allocation, text, stored, json.loads(text), path, str(path)):
        assert load_plan(source) == allocation
    path.write_text(json.dumps(PLAN))
    for table in (PLAN, json.dumps(PLAN), path, str(path)):
        assert load_plan(table) == PLAN


@pytest.mark.parametrize("load", [load_profile, load_plan])
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("profil.json", "No such file or directory"),
        ("", "Is a directory"),
        ("[1, 2]", "No such file or directory"),
        ("x" * 5000, "File name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_text_that_is_neither_says_what_was_expected(load: object, source: str, why: str) -> None:
    assert callable(load)
    with pytest.raises(
        InvalidInputError, match=rf"^/: expected JSON, which begins with '{{'.* as a path: {why}$"
    ) as error:
        load(source)
    assert len(str(error.value)) < 300


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot read the plan: .*missing\.json"):
        load_plan(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", "expected a plan, got something that is no JSON"),
        (b"[]", "expected an allocation, or a table of layer and format, got list"),
        ('{"up": 8}', r"/up: expected the name of a format, got 8"),
        ('{"solver": {}, "colour": 1}', r"/colour: unknown field 'colour'"),
    ],
)
def test_what_is_no_plan_is_refused(source: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_plan(source)


def test_a_table_may_have_a_layer_of_any_name() -> None:
    assert load_plan({"solver": "int4"}) == {"solver": "int4"}
    assert isinstance(load_plan(solve(profile_json())), Allocation)
