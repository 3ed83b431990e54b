"""Errors as ``application/problem+json`` (RFC 9457), with a pointer per offending field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from allocator import Fault, InvalidInputError, MissingPackageError
from allocator.contract.errors import faults_of
from api.observability.requests import current_request_id
from api.problems.methods import allowed_methods
from bitalloc.problem_details import FieldProblem, ProblemDetails

MEDIA_TYPE = "application/problem+json"
#: Offending fields that an answer lists, and characters that it tells of each.
MOST_FAULTS = 100
_MOST_CHARACTERS = 1000


class ProblemError(HTTPException):
    """An error answer, raised wherever it is noticed.

    Args:
        status: HTTP status.
        kind: Last part of the problem type.
        detail: What happened.
        faults: The offending fields.
        headers: Headers to send along.

    Example:
        >>> raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-profile", "no profile of this name is here")
        Traceback (most recent call last):
        api.problems.problem.ProblemError: 404: no profile of this name is here
    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        faults: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.faults = tuple(faults)
        super().__init__(status, detail, headers)


def problem_response(error: ProblemError) -> JSONResponse:
    """Build the answer that an error stands for.

    Returns:
        The response.
    """
    status = HTTPStatus(error.status_code)
    return problem(status, error.kind, str(error.detail), error.faults, error.headers)


def details_of(status: HTTPStatus, kind: str, detail: str, faults: Iterable[Fault] = ()) -> ProblemDetails:
    """Describe an error.

    Args:
        status: HTTP status.
        kind: Last part of the problem type.
        detail: What happened.
        faults: The offending fields.

    Returns:
        The problem document.
    """
    return ProblemDetails(
        type=f"urn:bitalloc:problem:{kind}",
        title=status.phrase,
        status=status,
        detail=detail,
        errors=tuple(map(_field, islice(faults, MOST_FAULTS))),
        request_id=current_request_id(),
    )


def problem(
    status: HTTPStatus,
    kind: str,
    detail: str,
    faults: Iterable[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Build an error answer.

    Args:
        status: HTTP status.
        kind: Last part of the problem type.
        detail: What happened.
        faults: The offending fields.
        headers: Headers to send along.

    Returns:
        The response.
    """
    body = details_of(status, kind, detail, faults).model_dump(mode="json")
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def invalid_input_details(faults: Iterable[Fault]) -> ProblemDetails:
    """Describe content that cannot be used.

    Args:
        faults: The offending fields.

    Returns:
        The problem document.
    """
    listed = tuple(faults)
    detail = f"{len(listed)} field{'s' if len(listed) != 1 else ''} of the request cannot be used"
    if len(listed) > MOST_FAULTS:
        detail = f"more than {MOST_FAULTS} fields of the request cannot be used; these are the first"
    return details_of(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input", detail, listed)


def invalid_input(faults: Iterable[Fault]) -> JSONResponse:
    """Answer a request whose content cannot be used.

    Args:
        faults: The offending fields.

    Returns:
        A 422 response.
    """
    body = invalid_input_details(faults)
    return JSONResponse(body.model_dump(mode="json"), status_code=body.status, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers.

    Args:
        app: The application.
    """

    @app.exception_handler(InvalidInputError)
    async def _(_: Request, error: InvalidInputError) -> JSONResponse:
        return invalid_input(error.faults)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        entries = error.errors()
        if entries[0]["type"] == "json_invalid":
            where = f"JSON breaks at character {entries[0]['loc'][-1]}: {entries[0]['ctx']['error']}"
            return problem(HTTPStatus.BAD_REQUEST, "invalid-json", where)
        if entries[0]["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
            detail = "send a JSON object with Content-Type: application/json"
            return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
        if entries[0]["loc"] == ("body",) and not isinstance(error.body, Mapping):
            return invalid_input([Fault("", "expected a JSON object with the fields of the request")])
        return invalid_input(faults_of(entries, error.body, skip=1))

    @app.exception_handler(MissingPackageError)
    async def _(_: Request, error: MissingPackageError) -> JSONResponse:
        return problem(HTTPStatus.NOT_IMPLEMENTED, "missing-package", str(error))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error, ProblemError):
            return problem_response(error)
        status = HTTPStatus(error.status_code)
        wrong_method = status is HTTPStatus.METHOD_NOT_ALLOWED
        headers = {"allow": allowed_methods(request)} if wrong_method else error.headers
        kind = status.phrase.lower().replace(" ", "-")
        return problem(status, kind, str(error.detail), headers=headers)


def _field(fault: Fault) -> FieldProblem:
    return FieldProblem(pointer=_short(fault.pointer), detail=_short(fault.detail))


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def answers(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Document the error answers of a route.

    Args:
        *statuses: What it may answer besides success.

    Returns:
        For the ``responses`` of the route.
    """
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {int(status): {"description": status.phrase, "content": content} for status in statuses}
