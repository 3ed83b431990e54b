"""The service as its clients and its operator see it, over a real socket."""

from __future__ import annotations

from importlib import metadata

import httpx2
import pytest

from api.app import create_app
from tests.api.helpers import problem_of

PATH = "/v1/allocations"


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
