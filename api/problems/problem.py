"""Errors as ``application/problem+json`` (RFC 9457), with a pointer per offending field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

from starlette.exceptions import HTTPException

from allocator import Fault
from api.observability.requests import current_request_id
from bitalloc.problem_details import FieldProblem, ProblemDetails

MEDIA_TYPE = "application/problem+json"
#: Offending fields that an answer lists, and characters that it tells of each.
MOST_FAULTS = 100
_MOST_CHARACTERS = 1000


class ProblemError(HTTPException):
    """An error answer, raised wherever it is noticed.

    Args:
        kind: Last part of the problem type.
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


def details_of(status: HTTPStatus, kind: str, detail: str, faults: Iterable[Fault] = ()) -> ProblemDetails:
    """Describe an error.

    Args:
        kind: Last part of the problem type.

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
