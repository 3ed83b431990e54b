from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from allocator import InvalidInputError, Profile, load_profile
from tests.allocator.profiles import profile_json


def test_reads_a_profile_from_every_kind_of_source(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile_json()))
    profile = load_profile(profile_json())
    assert load_profile(path) == load_profile(path.read_text()) == load_profile(path.read_bytes()) == profile
    assert load_profile(profile) is profile


def test_survives_a_round_trip_through_json() -> None:
    profile = load_profile(
        profile_json(costs={"kl": {"values": [[None, 0.1, 1e-30]] * 3, "stderr": [[0, 0, 0.5]] * 3}})
    )
    assert load_profile(profile.model_dump_json()) == profile
    assert load_profile(profile.model_dump_json()).digest() == profile.digest()


def test_the_digest_is_kept_and_no_part_of_the_profile() -> None:
    profile, other = load_profile(profile_json()), load_profile(profile_json())
    written = profile.model_dump_json()
    assert profile.digest() == profile.digest() == other.digest()
    assert profile == load_profile(written)
    assert profile.model_dump_json() == written
    assert profile.model_copy(update={"model": "other"}).digest() != profile.digest()
    assert profile.model_copy(deep=True).digest() == profile.digest()
    table = profile.resources["weight_bytes"]
    assert table.whole
    assert not table.model_copy(update={"constant": 0.5}).whole


def test_the_digest_tells_profiles_apart() -> None:
    assert load_profile(profile_json()).digest() != load_profile(profile_json(model="other")).digest()


def test_is_frozen() -> None:
    profile = load_profile(profile_json())
    with pytest.raises(ValidationError, match="frozen"):
        profile.model = "other"  # type: ignore[misc]


def test_negative_costs_are_kept_raw() -> None:
    profile = load_profile(profile_json(costs={"trace": {"values": [[-1.5, 0, 0]] * 3}}))
    assert profile.costs["trace"].values[0][0] == -1.5


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"nope": 1}, "/nope: unknown field 'nope'"),
    "unknown field of a layer": ({"layers": [{"name": "a", "bits": 4}] * 3}, "/layers/0/bits: unknown field"),
    "no layers": ({"layers": []}, "/layers: .*at least 1"),
    "no formats": ({"formats": {}}, "/formats: .*at least 1"),
    "no tables": ({"costs": {}, "resources": {}}, "at least one table in costs or resources, got none"),
    "repeated layer": ({"layers": [{"name": "a"}] * 3}, "/layers: layer names must be unique, repeated: 'a'"),
    "too few rows": (
        {"costs": {"kl": {"values": [[1, 2, 3]]}}},
        "/costs/kl/values: expected 3 rows, .* got 1",
    ),
    "short row": (
        {"costs": {"kl": {"values": [[1, 2, 3], [1, 2], [1, 2, 3]]}}},
        "/costs/kl/values/1: expected 3 v",
    ),
    "stderr of another shape": (
        {"costs": {"kl": {"values": [[1, 2, 3]] * 3, "stderr": [[0, 0, 0]]}}},
        "/costs/kl/stderr: expected 3 rows",
    ),
    "resource of another shape": (
        {"resources": {"b": {"values": [[1, 2, 3]]}}},
        "/resources/b/values: expected 3 rows",
    ),
    "NaN": (
        {"costs": {"kl": {"values": [[float("nan"), 1, 2]] * 3}}},
        "/costs/kl/values/0/0: .*finite number",
    ),
    "infinity": (
        {"resources": {"b": {"values": [[1, 2, float("inf")]] * 3}}},
        "/resources/b/values/0/2: .*finite",
    ),
    "negative size": (
        {"resources": {"b": {"values": [[1, 2, -3]] * 3}}},
        "/resources/b/values/0/2: .*greater than or",
    ),
    "negative stderr": (
        {"costs": {"kl": {"values": [[1, 2, 3]] * 3, "stderr": [[0, 0, -1]] * 3}}},
        "/costs/kl/stderr/0/2: .*greater",
    ),
    "a number as text": (
        {"costs": {"kl": {"values": [["1", 2, 3]] * 3}}},
        "/costs/kl/values/0/0: .*valid number",
    ),
    "a boolean as number": (
        {"costs": {"kl": {"values": [[True, 2, 3]] * 3}}},
        "/costs/kl/values/0/0: .*valid number",
    ),
    "zero bits": ({"formats": {"a": {"weight_bits": 0}}}, "/formats/a/weight_bits: .*greater than 0"),
    "another version": ({"schema_version": 2}, "/schema_version: .*should be 1"),
    "one name for two tables": (
        {"costs": {"x": {"values": [[1, 2, 3]] * 3}}, "resources": {"x": {"values": [[1, 2, 3]] * 3}}},
        "a cost and a resource share the name 'x'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(InvalidInputError, match=words):
        load_profile(profile_json(**changes))


def test_names_every_faulty_field_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_profile(profile_json(nope=1, schema_version=2))
    assert {fault.pointer for fault in caught.value.faults} == {"/nope", "/schema_version"}


def test_names_with_braces_are_printed_as_they_are() -> None:
    with pytest.raises(InvalidInputError, match=r"repeated: '\{x\}'"):
        load_profile(profile_json(layers=[{"name": "{x}"}] * 3))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot read the profile: .*nowhere\.json"):
        load_profile(tmp_path / "nowhere.json")


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Invalid JSON"):
        load_profile("{")


def test_the_wire_model_is_the_documented_one() -> None:
    assert set(Profile.model_fields) == {
        "schema_version", "model", "formats", "layers", "costs", "resources", "fusions", "provenance",
        "outside", "identity",
    }  # fmt: skip
