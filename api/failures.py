"""Answers where the input is fine and the service is not: workers that fail, a database that is gone or full."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from allocator import BitallocError
from api.problems import problem
from api.store import StoreFullError, StoreUnavailableError
from api.work import (
    InvalidJsonError,
    WorkerCrashedError,
    WorkerFailedError,
    WorkerMemoryError,
    WorkerOverrunError,
)

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
FAILURES: Mapping[type[BitallocError], Failure] = {
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
    StoreUnavailableError: Failure(
        HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable", "the database does not answer; try again", _LATER
    ),
    StoreFullError: Failure(
        HTTPStatus.INSUFFICIENT_STORAGE,
        "store-full",
        "the database has no room left; tell the operator",
        _LATER,
    ),
}


def failure_of(error: BitallocError) -> Failure:
    """Tell how an error is answered.

    Args:
        error: One of :data:`FAILURES`.

    Returns:
        The answer, with its detail.
    """
    entry = FAILURES[type(error)]
    return entry if entry.detail is not None else Failure(entry.status, entry.kind, str(error), entry.headers)


def install(app: FastAPI) -> None:
    """Register the handlers.

    Args:
        app: The application.
    """

    async def answer(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, BitallocError)
        found = failure_of(error)
        if found.status >= _FAILED:
            _LOG.error("%s %s: %s", request.method, request.url.path, error, exc_info=error.__cause__)
        return problem(found.status, found.kind, str(found.detail), headers=found.headers)

    for kind in FAILURES:
        app.add_exception_handler(kind, answer)
