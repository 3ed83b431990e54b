"""Errors as ``application/problem+json`` (RFC 9457), with a pointer per offending field."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from allocator import Fault, InvalidInputError, MissingPackageError
from allocator.errors import fault_of
from allocator.schema import Strict

_LOG = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class FieldProblem(Strict):
    """One offending field.

    Attributes:
        pointer: JSON pointer into the request body.
        detail: What was expected, what came, what to do.
    """

    pointer: str
    detail: str


class ProblemDetails(Strict):
    """Body of every error answer (RFC 9457).

    Attributes:
        type: Identifies the kind of problem.
        title: The kind of problem, for people.
        status: HTTP status.
        detail: What happened, in one sentence.
        errors: The offending fields.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldProblem, ...] = ()


def problem(status: HTTPStatus, kind: str, detail: str, faults: Iterable[Fault] = ()) -> JSONResponse:
    """Build an error answer.

    Args:
        status: HTTP status.
        kind: Last part of the problem type.
        detail: What happened.
        faults: The offending fields.

    Returns:
        The response.
    """
    body = ProblemDetails(
        type=f"urn:bitalloc:problem:{kind}",
        title=status.phrase,
        status=status,
        detail=detail,
        errors=tuple(FieldProblem(pointer=fault.pointer, detail=fault.detail) for fault in faults),
    )
    return JSONResponse(body.model_dump(mode="json"), status_code=status, media_type=MEDIA_TYPE)


def invalid_input(faults: Iterable[Fault]) -> JSONResponse:
    """Answer a request whose content cannot be used.

    Args:
        faults: The offending fields.

    Returns:
        A 422 response.
    """
    listed = tuple(faults)
    detail = f"{len(listed)} field{'s' if len(listed) != 1 else ''} of the request cannot be used"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input", detail, listed)


def install(app: FastAPI) -> None:
    """Register the handlers.

    Args:
        app: The application.
    """

    @app.exception_handler(InvalidInputError)
    async def _(_: Request, error: InvalidInputError) -> JSONResponse:
        return invalid_input(error.faults)

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        entries = error.errors()
        if entries[0]["type"] == "json_invalid":
            where = f"JSON breaks at character {entries[0]['loc'][-1]}: {entries[0]['ctx']['error']}"
            return problem(HTTPStatus.BAD_REQUEST, "invalid-json", where)
        if entries[0]["loc"] == ("body",):
            detail = "expected a JSON object, sent with Content-Type: application/json"
            return invalid_input([Fault("", detail)])
        return invalid_input(fault_of(entry, skip=1) for entry in entries)

    @app.exception_handler(MissingPackageError)
    async def _(_: Request, error: MissingPackageError) -> JSONResponse:
        return problem(HTTPStatus.NOT_IMPLEMENTED, "missing-package", str(error))

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        return problem(status, status.phrase.lower().replace(" ", "-"), str(error.detail))

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("unexpected error in %s %s", request.method, request.url.path, exc_info=error)
        detail = "the service failed; the operator's log has the reason"
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)
