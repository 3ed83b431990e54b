"""The OpenAPI document: committed as it is served, complete, and its examples true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema
import pytest

from api.documents.example_answers import asked
from api.documents.openapi import written
from api.openapi.descriptions import split, spread
from api.openapi.document import ANSWERS
from api.problems.problem import MEDIA_TYPE
from tests.conftest import ROOT

COMMITTED = ROOT / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(COMMITTED.read_text("utf-8"))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


EXAMPLES = [
    pytest.param(method, path, example["value"], id=f"{method} {path}: {name}")
    for method, path, operation in operations()
    for name, example in operation.get("requestBody", {})
    .get("content", {})
    .get("application/json", {})
    .get("examples", {})
    .items()
]


def test_the_committed_document_is_the_one_that_is_served(http: httpx2.Client) -> None:
    assert COMMITTED.read_text("utf-8") == written(), "run `make openapi`"
    assert http.get("/openapi.json").json() == DOCUMENT


def test_every_operation_says_what_it_is() -> None:
    names = [operation["operationId"] for *_, operation in operations()]
    assert len(set(names)) == len(names)
    for method, path, operation in operations():
        assert operation["summary"], (method, path)
        assert operation["tags"], (method, path)
        if path.startswith("/v1"):
            assert operation["description"], (method, path)
        assert any(status.startswith("2") for status in operation["responses"]), (method, path)


def test_every_error_is_a_problem() -> None:
    for method, path, operation in operations():
        for status, response in operation["responses"].items():
            if not status.startswith("2"):
                assert set(response["content"]) == {MEDIA_TYPE}, (method, path, status)


def test_keys_are_documented_where_they_may_be_needed() -> None:
    assert len(DOCUMENT["components"]["securitySchemes"]) == 2
    for method, path, operation in operations():
        guarded = path.startswith("/v1")
        assert ("security" in operation) == guarded, (method, path)
        assert ({"401", "429"} <= set(operation["responses"])) == guarded, (method, path)


def test_every_field_is_described() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert "Attributes:" not in schema.get("description", ""), name
        for field, definition in schema.get("properties", {}).items():
            assert definition.get("description"), (name, field)


def test_every_body_has_examples() -> None:
    with_bodies = {(method, path) for method, path, operation in operations() if "requestBody" in operation}
    assert with_bodies >= {
        ("post", f"/v1/{name}") for name in ("frontiers", "explanations", "exports", "lint")
    }
    assert {tuple(param.values[:2]) for param in EXAMPLES} == with_bodies


@pytest.mark.thorough
def test_the_answers_shown_are_the_answers_given(service: str) -> None:
    assert asked(service) == json.loads(ANSWERS.read_text("utf-8")), "run `make openapi`"


def test_every_answer_has_examples_that_fit_its_schema() -> None:
    fitting = 0
    for method, path, operation in operations():
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json", {})
            if not status.startswith("2") or not content:
                continue
            assert content["examples"], (method, path, status)
            schema = {**content["schema"], "components": DOCUMENT["components"]}
            for name, example in content["examples"].items():
                assert example["summary"], (method, path, status, name)
                jsonschema.validate(example["value"], schema)
                fitting += 1
    assert fitting > 30


def test_a_field_that_is_inherited_is_described_where_it_is_from() -> None:
    schemas: dict[str, Any] = {
        "AllocationRequest": {"properties": {"gap": {}, "batch": {}, "odd": {}}},
        "NoModel": {"description": "Text.", "properties": {"x": {"description": "kept"}}},
    }
    spread(schemas)
    described = schemas["AllocationRequest"]["properties"]
    assert described["gap"]["description"].startswith("Stop once the plan is proved")
    assert described["batch"]["description"].startswith("Budgets of several plans")
    assert described["odd"] == {}
    assert schemas["NoModel"] == {"description": "Text.", "properties": {"x": {"description": "kept"}}}


def test_a_docstring_without_attributes_is_all_text() -> None:
    assert split("One line.") == ("One line.", {})
    assert split("One.\n\n    More.\n\n    Example:\n        >>> 1\n    ") == ("One.\n\nMore.", {})
