"""Answers where the input is fine and the service is not: workers that fail, a database that is gone or full."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from allocator import InvalidInputError, MissingPackageError
from api.errors import (
    InvalidJsonError,
    StoreDamagedError,
    StoreFullError,
    StoreUnavailableError,
    WorkerCrashedError,
    WorkerFailedError,
    WorkerMemoryError,
    WorkerOverrunError,
)
from api.problems.problem import MEDIA_TYPE, ProblemError, details_of, invalid_input_details
from bitalloc.problem_details import ProblemDetails

_LOG = logging.getLogger(__name__)
_LATER = {"retry-after": "2"}


@dataclass(frozen=True)
class Failure:
    """How an error is answered.

    Attributes:
        status: HTTP status.
        kind: Last part of the problem type.
        detail: For the client; None shows the error's own message, which has to be fit for that.
        headers: Headers to send along.
    """

    status: HTTPStatus
    kind: str
    detail: str | None = None
    headers: Mapping[str, str] | None = None


_FAILED = HTTPStatus.INTERNAL_SERVER_ERROR
_LOG_HAS_IT = "the service failed; the operator's log has the reason"
FAILURES: Mapping[type[Exception], Failure] = {
    InvalidJsonError: Failure(HTTPStatus.BAD_REQUEST, "invalid-json"),
    WorkerOverrunError: Failure(
        _FAILED,
        "solver-overran",
        "the solver overran its time limit by far and was ended; ask for another solver",
    ),
    WorkerMemoryError: Failure(
        _FAILED,
        "solver-out-of-memory",
        "the solver needed more memory than it may take; ask for another solver",
    ),
    WorkerCrashedError: Failure(
        _FAILED, "solver-crashed", "the solver's process ended; ask for another solver"
    ),
    WorkerFailedError: Failure(_FAILED, "internal-error", _LOG_HAS_IT),
    StoreUnavailableError: Failure(HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable", headers=_LATER),
    StoreDamagedError: Failure(
        _FAILED, "store-damaged", "what the database holds cannot be read; tell the operator"
    ),
    StoreFullError: Failure(
        HTTPStatus.INSUFFICIENT_STORAGE,
        "store-full",
        "the database has no room left; tell the operator",
        _LATER,
    ),
}


def problem_of(error: Exception) -> ProblemDetails:
    """Describe an error to the client, and log it where it is the service's.

    Returns:
        The problem document.
    """
    if isinstance(error, InvalidInputError):
        return invalid_input_details(error.faults)
    if isinstance(error, MissingPackageError):
        return details_of(HTTPStatus.NOT_IMPLEMENTED, "missing-package", str(error))
    if isinstance(error, ProblemError):
        return details_of(HTTPStatus(error.status_code), error.kind, str(error.detail), error.faults)
    found = FAILURES.get(type(error), FAILURES[WorkerFailedError])
    if found.status >= _FAILED:
        _LOG.error("%s", error, exc_info=error.__cause__)
    return details_of(found.status, found.kind, str(error) if found.detail is None else found.detail)


def failure_response(error: Exception) -> JSONResponse:
    """Build the answer to an error.

    Returns:
        The response.
    """
    details = problem_of(error)
    headers = dict(FAILURES[type(error)].headers or {}) if type(error) in FAILURES else {}
    return JSONResponse(
        details.model_dump(mode="json"), details.status, headers=headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Register the handlers.

    Args:
        app: The application.
    """

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return failure_response(error)

    for kind in FAILURES:
        app.add_exception_handler(kind, answer)
