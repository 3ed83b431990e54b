"""One table of which exception is answered how, for routes, middleware and jobs alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from allocator import Fault, InvalidInputError, MissingPackageError
from allocator.contract.errors import faults_of
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
from api.problems.methods import allowed_methods
from api.problems.problem import MEDIA_TYPE, MOST_FAULTS, ProblemError, details_of
from bitalloc.problem_details import ProblemDetails

_LOG = logging.getLogger(__name__)
_LATER = {"retry-after": "2"}


@dataclass(frozen=True)
class Answer:
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
PROBLEMS: Mapping[type[Exception], Answer] = {
    InvalidInputError: Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input"),
    MissingPackageError: Answer(HTTPStatus.NOT_IMPLEMENTED, "missing-package"),
    InvalidJsonError: Answer(HTTPStatus.BAD_REQUEST, "invalid-json"),
    WorkerOverrunError: Answer(
        _FAILED,
        "solver-overran",
        "the solver overran its time limit by far and was ended; ask for another solver",
    ),
    WorkerMemoryError: Answer(
        _FAILED,
        "solver-out-of-memory",
        "the solver needed more memory than it may take; ask for another solver",
    ),
    WorkerCrashedError: Answer(
        _FAILED, "solver-crashed", "the solver's process ended; ask for another solver"
    ),
    WorkerFailedError: Answer(_FAILED, "internal-error", _LOG_HAS_IT),
    StoreUnavailableError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable", headers=_LATER),
    StoreDamagedError: Answer(
        _FAILED, "store-damaged", "what the database holds cannot be read; tell the operator"
    ),
    StoreFullError: Answer(
        HTTPStatus.INSUFFICIENT_STORAGE,
        "store-full",
        "the database has no room left; tell the operator",
        _LATER,
    ),
}


def problem_of(error: Exception) -> ProblemDetails:
    """Return what the client is told of an error, and log the error where it is the service's."""
    found = _answer_to(error)
    faults = getattr(error, "faults", ())
    if isinstance(error, InvalidInputError):
        return details_of(found.status, found.kind, _counted(len(faults)), faults)
    if found.status >= _FAILED and not isinstance(error, (ProblemError, MissingPackageError)):
        _LOG.error("%s", error, exc_info=error.__cause__)
    return details_of(found.status, found.kind, str(error) if found.detail is None else found.detail, faults)


def response_to(error: Exception) -> JSONResponse:
    """Return the answer to an error."""
    details, headers = problem_of(error), dict(_answer_to(error).headers or {})
    return JSONResponse(details.model_dump(mode="json"), details.status, headers, media_type=MEDIA_TYPE)


def _answer_to(error: Exception) -> Answer:
    if isinstance(error, ProblemError):
        return Answer(HTTPStatus(error.status_code), error.kind, str(error.detail), error.headers)
    known = (PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    return next(known, PROBLEMS[WorkerFailedError])


def _counted(faults: int) -> str:
    if faults > MOST_FAULTS:
        return f"more than {MOST_FAULTS} fields of the request cannot be used; these are the first"
    return f"{faults} field{'s' if faults != 1 else ''} of the request cannot be used"


def install(app: FastAPI) -> None:
    """Answer every error of the table, and those that the framework raises."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, RequestValidationError):
            return response_to(_of_body(request, error))
        if isinstance(error, HTTPException) and not isinstance(error, ProblemError):
            return response_to(_of_framework(request, error))
        return response_to(error)

    for kind in (*PROBLEMS, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def _of_body(request: Request, error: RequestValidationError) -> Exception:
    entries = error.errors()
    if entries[0]["type"] == "json_invalid":
        where = f"JSON breaks at character {entries[0]['loc'][-1]}: {entries[0]['ctx']['error']}"
        return InvalidJsonError(where)
    if entries[0]["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
        detail = "send a JSON object with Content-Type: application/json"
        return ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
    if entries[0]["loc"] == ("body",) and not isinstance(error.body, Mapping):
        return InvalidInputError(Fault("", "expected a JSON object with the fields of the request"))
    return InvalidInputError(*faults_of(entries, error.body, skip=1))


def _of_framework(request: Request, error: HTTPException) -> ProblemError:
    status = HTTPStatus(error.status_code)
    wrong_method = status is HTTPStatus.METHOD_NOT_ALLOWED
    headers = {"allow": allowed_methods(request)} if wrong_method else error.headers
    return ProblemError(status, status.phrase.lower().replace(" ", "-"), str(error.detail), headers=headers)
