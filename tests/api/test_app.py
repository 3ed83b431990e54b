"""The service as its clients and its operator see it, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

import httpx2
import pytest

from allocator import solve
from api.app import create_app
from api.problems.problem import MEDIA_TYPE
from tests.api.helpers import comparable, problem_of

PATH = "/v1/allocations"


@pytest.fixture(scope="module")
def openapi(service: str) -> dict[str, Any]:
    response = httpx2.get(f"{service}/openapi.json")
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


def _examples(document: dict[str, Any]) -> dict[str, Any]:
    content = document["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    examples: dict[str, Any] = content["examples"]
    return examples


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_health_tells_the_version(http: httpx2.Client) -> None:
    response = http.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": metadata.version("bitalloc")}


def test_the_documentation_is_served(http: httpx2.Client) -> None:
    response = http.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "/viewer/start.js" in response.text
    assert "/openapi.json" in http.get("/viewer/start.js").text


def test_openapi_names_the_service_and_its_version(openapi: dict[str, Any]) -> None:
    assert openapi["info"]["title"] == "bitalloc"
    assert openapi["info"]["version"] == metadata.version("bitalloc")
    assert {PATH, "/v1/profiles", "/v1/jobs", "/healthz"} <= set(openapi["paths"])


def test_openapi_describes_every_error_as_a_problem(openapi: dict[str, Any]) -> None:
    responses = openapi["paths"][PATH]["post"]["responses"]
    expected = {"200", "202", "400", "404", "409", "413", "415", "422", "500", "501", "503", "507"}
    assert expected <= set(responses)
    for status in set(responses) - {"200", "202"}:
        assert set(responses[status]["content"]) == {MEDIA_TYPE}


def test_openapi_describes_the_request_strictly(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    assert schemas["AllocationRequest"]["additionalProperties"] is False
    assert schemas["Profile"]["required"] == ["formats", "layers"]


def test_every_reference_in_openapi_leads_somewhere(openapi: dict[str, Any]) -> None:
    references = set(_references(openapi))
    assert references
    for reference in references:
        node: Any = openapi
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


def test_every_example_in_openapi_is_accepted_and_solved(
    http: httpx2.Client, openapi: dict[str, Any]
) -> None:
    examples = _examples(openapi)
    assert len(examples) == 3
    for example in examples.values():
        response = http.post(PATH, json=example["value"])
        assert response.status_code == 200, response.text
        assert comparable(response.content) == comparable(solve(**example["value"]))
        assert response.json()["status"] == "optimal"


def test_an_unknown_route_is_a_problem(http: httpx2.Client) -> None:
    body = problem_of(http.get("/v1/allocation"), 404)
    assert body["type"] == "urn:bitalloc:problem:not-found"
    assert body["title"] == "Not Found"


@pytest.mark.parametrize(("method", "path"), [("PUT", PATH), ("DELETE", PATH), ("POST", "/healthz")])
def test_a_wrong_method_is_a_problem(http: httpx2.Client, method: str, path: str) -> None:
    body = problem_of(http.request(method, path), 405)
    assert body["type"] == "urn:bitalloc:problem:method-not-allowed"


def test_a_wrong_method_is_told_which_ones_are_right(http: httpx2.Client) -> None:
    assert http.put("/healthz").headers["allow"] == "GET"


def test_settings_are_kept_where_operators_can_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_MAX_BODY_BYTES", "123")
    assert create_app().state.settings.max_body_bytes == 123
