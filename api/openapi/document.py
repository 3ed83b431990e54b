"""The OpenAPI document where FastAPI cannot see it: bodies that workers parse, and error answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from allocator import Profile
from api.openapi.answers import describe_answers
from api.openapi.descriptions import spread
from api.openapi.keys import describe_keys
from api.openapi.streams import describe_streams
from api.operations import OPERATIONS
from bitalloc.problem_details import ProblemDetails
from bitalloc.wire import AllocationRequest

_REFERENCE = "#/components/schemas/{model}"


def body_of(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Document the body of a route that reads raw bytes.

    Args:
        model: What the body has to be; one that :func:`describe` knows.
        examples: Named examples.

    Returns:
        For ``openapi_extra`` of the route.
    """
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    content = {"application/json": {"schema": schema, "examples": dict(examples)}}
    return {"requestBody": {"required": True, "content": content}}


def operation_id(route: APIRoute) -> str:
    """Name an operation for generated clients.

    Returns:
        Method and path in one word: ``post_frontiers``.
    """
    words = route.path_format.removeprefix("/v1").translate(str.maketrans("/", "_", "{}"))
    return min(route.methods or {"GET"}).lower() + words


def describe(app: FastAPI) -> None:
    """Put the models that FastAPI cannot see into the OpenAPI document.

    Args:
        app: The application.
    """
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
