"""What an operation of the service is: one value, which routes, the OpenAPI document and workers read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from allocator import Allocation, Request

M = TypeVar("M", bound=BaseModel)
#: Statuses of errors that any operation may be answered with.
ERRORS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)


class PlannedAllocation(Allocation):
    """An allocation as the service gave it, or as the library or the command wrote it.

    Attributes:
        id: Where the service keeps it.
    """

    id: str | None = None


#: Given the id of an allocation: the allocation. Raises where the caller has no such allocation.
Stored = Callable[[str], PlannedAllocation]


def with_stored_plan(asked: M, stored: Stored) -> M:
    """Put the stored allocation where a request names one instead of a plan; its id stays, for faults to point at.

    Args:
        asked: The request, which has the fields ``plan`` and ``allocation_id``.

    Returns:
        The request with a plan.
    """
    identifier: str | None = getattr(asked, "allocation_id", None)
    return asked if identifier is None else asked.model_copy(update={"plan": stored(identifier)})


def sharing(request: Request, parts: int) -> Request:
    """Give each of several solves its share of the time.

    Args:
        request: The request, whose limit is for all of them.

    Returns:
        The request for one of them.

    Example:
        >>> sharing(Request(time_limit_s=6.0), 4).time_limit_s
        1.5
    """
    if request.time_limit_s is None:
        return request
    return request.model_copy(update={"time_limit_s": request.time_limit_s / parts})


@dataclass(frozen=True)
class Listing:
    """What ``GET`` of an operation's path lists: the names that its body may hold.

    Attributes:
        summary: In the OpenAPI document.
        description: The same.
        answer: The model of the list.
        compute: Makes it.
    """

    summary: str
    description: str
    answer: type[BaseModel]
    compute: Callable[[], BaseModel]


@dataclass(frozen=True)
class Operation:
    """A body in, an answer out, nothing kept.

    Attributes:
        path: Below ``/v1``.
        tag: Where the OpenAPI document groups it.
        summary: One line for the OpenAPI document.
        description: More lines for it.
        request: The model of the body. One that is a :class:`~bitalloc.wire.ProfileRequest` is about a profile.
        answer: The model of the answer.
        compute: Makes the answer. Called with the profile, the plan request within the time limit and the body where
            the operation is about a profile, and with the body alone otherwise.
        examples: Bodies for the OpenAPI document, by name, each with a ``summary`` and a ``value``. Requests made from
            them test the operation.
        with_stored: Puts stored allocations where a body names them by their ids.
        listing: What ``GET`` of the path answers.
    """

    path: str
    tag: Literal["planning", "tools"]
    summary: str
    description: str
    request: type[BaseModel]
    answer: type[BaseModel]
    compute: Callable[..., BaseModel]
    examples: Mapping[str, Any]
    with_stored: Callable[[Any, Stored], Any] = lambda asked, stored: asked  # noqa: ARG005 - most name none
    listing: Listing | None = None
