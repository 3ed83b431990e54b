"""What a client raises, and how it reads error answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import NoReturn, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from allocator import BitallocError, Fault, InvalidInputError
from bitalloc.problem_details import ProblemDetails

M = TypeVar("M", bound=BaseModel)


class ServiceError(BitallocError, RuntimeError):
    """The service could not be reached, or answered with an error that is not about the input.

    Attributes:
        status: HTTP status; None where there was no answer.
        problem: What the service said, if it said so in the usual form.
    """

    def __init__(
        self, message: str, status: int | None = None, problem: ProblemDetails | None = None
    ) -> None:
        self.status = status
        self.problem = problem
        super().__init__(message)


def understood(response: httpx2.Response, model: type[M]) -> M:
    """Read a successful answer.

    Args:
        model: What it has to be.

    Returns:
        What it says.

    Raises:
        ServiceError: It is an error, or no such thing.
        InvalidInputError: The service cannot use the request; names every offending field.
    """
    if not response.is_success:
        refuse(response)
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        raise ServiceError(_said(response), response.status_code) from None


def refuse(response: httpx2.Response) -> NoReturn:
    """Raise what an error answer says.

    Raises:
        ServiceError: It is not about the input.
    """
    details = problem_in(response)
    if details is None:
        raise ServiceError(_said(response), response.status_code)
    raise_problem(details)


def raise_problem(details: ProblemDetails) -> NoReturn:
    """Raise what a problem document says.

    Raises:
        InvalidInputError: The request cannot be used; names every offending field.
        ServiceError: It is not about the input.
    """
    if details.status == HTTPStatus.UNPROCESSABLE_ENTITY and details.errors:
        # The service points into the body, where the profile is a field; the library points into the profile.
        raise InvalidInputError(
            *(Fault(item.pointer.removeprefix("/profile"), item.detail) for item in details.errors)
        )
    message = f"the service answered {details.status}: {details.detail}"
    raise ServiceError(message, details.status, details)


def lacks(response: httpx2.Response, what: str) -> bool:
    """Whether a service answers that it does not have what a request named.

    Args:
        what: ``profile`` or ``allocation``.

    Returns:
        True if so.
    """
    details = problem_in(response) if response.status_code == HTTPStatus.NOT_FOUND else None
    return details is not None and details.type == f"urn:bitalloc:problem:no-such-{what}"


def problem_in(response: httpx2.Response) -> ProblemDetails | None:
    """Read an error answer.

    Returns:
        What it says; None where it is not in the usual form, or about another status.
    """
    try:
        details = ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        return None
    return details if details.status == response.status_code else None


def _said(response: httpx2.Response) -> str:
    return f"the service answered {response.status_code}: {response.text[:200] or response.reason_phrase}"
