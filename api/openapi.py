"""The OpenAPI document where FastAPI cannot see it: bodies that workers parse, and error answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from allocator import Profile
from api.problem_details import ProblemDetails
from api.wire import AllocationRequest

_REFERENCE = "#/components/schemas/{model}"
#: Models that routes take as raw bytes, and that of every error answer.
UNSEEN: tuple[type[BaseModel], ...] = (ProblemDetails, AllocationRequest, Profile)


def body_of(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Document the body of a route that reads raw bytes.

    Args:
        model: What the body has to be; one of :data:`UNSEEN`.
        examples: Named examples.

    Returns:
        For ``openapi_extra`` of the route.
    """
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    content = {"application/json": {"schema": schema, "examples": dict(examples)}}
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI) -> None:
    """Put the models that FastAPI cannot see into the OpenAPI document.

    Args:
        app: The application.
    """
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        _, schema = models_json_schema([(model, "validation") for model in UNSEEN], ref_template=_REFERENCE)
        found = document.setdefault("components", {}).setdefault("schemas", {})
        for name, definition in schema["$defs"].items():
            found.setdefault(name, definition)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
