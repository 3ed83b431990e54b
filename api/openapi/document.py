"""The OpenAPI document where FastAPI cannot see it: bodies that workers parse, errors, keys, streams, examples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from allocator import Profile
from api.openapi.descriptions import spread
from api.operations import OPERATIONS
from api.problems.problem import answers
from bitalloc.problem_details import ProblemDetails
from bitalloc.wire import AllocationRequest

ANSWERS = Path(__file__).with_name("example_answers.json")
#: Method and path → status and media type → name → summary and value.
Answers = dict[str, dict[str, dict[str, Any]]]
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of `bitalloc keys create`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
# Without keys the service is open to its own machine, which the empty requirement says.
_EITHER: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {}]
_ANY = answers(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_WITH_BODY = answers(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_EVENTS = "text/event-stream"
_REFERENCE = "#/components/schemas/{model}"


def describe_answers(document: dict[str, Any]) -> None:
    """Put the answers into the document."""
    answers: Answers = json.loads(ANSWERS.read_text("utf-8"))
    for route, statuses in answers.items():
        method, path = route.split()
        for status, examples in statuses.items():
            code, kind = status.split()
            content = document["paths"][path][method.lower()]["responses"][code]["content"]
            content[kind]["examples"] = examples


def describe_keys(document: dict[str, Any]) -> None:
    """Say which operations need a key, and what else the middlewares may answer."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, methods in document["paths"].items():
        for operation in methods.values() if path.startswith("/v1/") else ():
            operation["security"] = _EITHER
            for status, answer in (_ANY | (_WITH_BODY if "requestBody" in operation else {})).items():
                operation["responses"].setdefault(str(status), answer)


def describe_streams(document: dict[str, Any]) -> None:
    """Describe streams of events in the words of OpenAPI 3.1, as a text.

    FastAPI describes each event under ``itemSchema``, which is of OpenAPI 3.2; in a document of 3.1, which is what most
    generators of clients read, validators refuse it.
    """
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                content = response.get("content", {}).get(_EVENTS, {})
                if content.pop("itemSchema", None) is not None:
                    content["schema"] = {
                        "type": "string",
                        "description": "Server-sent events, one after the other.",
                    }


def body_of(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Document the body of a route that reads raw bytes.

    Args:
        model: What the body has to be; one that :func:`describe` knows.

    Returns:
        For ``openapi_extra`` of the route.
    """
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    content = {"application/json": {"schema": schema, "examples": dict(examples)}}
    return {"requestBody": {"required": True, "content": content}}


def operation_id(route: APIRoute) -> str:
    """Return method and path in one word, for generated clients: ``post_frontiers``."""
    words = route.path_format.removeprefix("/v1").translate(str.maketrans("/", "_", "{}"))
    return min(route.methods or {"GET"}).lower() + words


def describe(app: FastAPI) -> None:
    """Put the models that FastAPI cannot see into the OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        _, schema = models_json_schema(
            [(model, "validation") for model in _unseen()], ref_template=_REFERENCE
        )
        found = document.setdefault("components", {}).setdefault("schemas", {})
        for name, definition in schema["$defs"].items():
            found.setdefault(name, definition)
        spread(found)
        describe_streams(document)
        describe_keys(document)
        describe_answers(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _unseen() -> Iterator[type[BaseModel]]:
    # Models that routes take as raw bytes, and that of every error answer.
    yield from (ProblemDetails, AllocationRequest, Profile)
    yield from (operation.request for operation in OPERATIONS.values())
