"""A typed client for the service, blocking and asynchronous.

Errors of the service come back as the exceptions that the library itself raises: a request that cannot be used raises
:class:`~allocator.errors.InvalidInputError` with the same pointers, anything else :class:`ServiceError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from pydantic import ValidationError

from allocator import (
    Allocation,
    BitallocError,
    Fault,
    InvalidInputError,
    Profile,
    load_profile,
    make_request,
)
from api.problem_details import ProblemDetails
from api.wire import StoredAllocation

#: A solve may take as long as the service allows; connecting may not.
_TIMEOUT = httpx2.Timeout(120.0, connect=5.0)
_ALLOCATIONS = "/v1/allocations"

Source = Profile | Mapping[str, object] | str | bytes | Path


class ServiceError(BitallocError, RuntimeError):
    """The service could not be reached, or answered with an error that is not about the input.

    Attributes:
        status: HTTP status; None where there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class Client:
    """Talk to a service; use it as a context manager.

    Args:
        base_url: Where the service listens, for example ``http://127.0.0.1:8000``.
        timeout: Seconds for connecting, reading and writing; generous for long solves by default.
        transport: Replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: httpx2.Timeout | float = _TIMEOUT,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = httpx2.Client(base_url=base_url, timeout=timeout, transport=transport)

    def allocate(self, profile: Source, **fields: object) -> Allocation:
        """Plan a model.

        Args:
            profile: A profile, its JSON, or the path of a JSON file.
            **fields: ``objective``, ``budgets``, ``pin``, ``allow``, ``forbid``, ``solver``, ``gap``, ``time_limit_s``.

        Returns:
            The allocation; ``status`` may be ``infeasible``.

        Raises:
            InvalidInputError: The profile or a field cannot be used.
            ServiceError: The service could not be reached or failed.
        """
        try:
            return _allocation(self._http.post(_ALLOCATIONS, **_body(profile, fields)))
        except httpx2.HTTPError as error:
            raise ServiceError(f"the service could not be reached: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """Talk to a service from asynchronous code; use it as an asynchronous context manager.

    Args:
        base_url: Where the service listens, for example ``http://127.0.0.1:8000``.
        timeout: Seconds for connecting, reading and writing; generous for long solves by default.
        transport: Replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: httpx2.Timeout | float = _TIMEOUT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(base_url=base_url, timeout=timeout, transport=transport)

    async def allocate(self, profile: Source, **fields: object) -> Allocation:
        """Plan a model.

        Args:
            profile: A profile, its JSON, or the path of a JSON file.
            **fields: ``objective``, ``budgets``, ``pin``, ``allow``, ``forbid``, ``solver``, ``gap``, ``time_limit_s``.

        Returns:
            The allocation; ``status`` may be ``infeasible``.

        Raises:
            InvalidInputError: The profile or a field cannot be used.
            ServiceError: The service could not be reached or failed.
        """
        try:
            return _allocation(await self._http.post(_ALLOCATIONS, **_body(profile, fields)))
        except httpx2.HTTPError as error:
            raise ServiceError(f"the service could not be reached: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _body(profile: Source, fields: Mapping[str, object]) -> dict[str, Any]:
    # Everything is checked here too, so that a faulty request costs no upload.
    request = make_request(fields).model_dump(mode="json", exclude_unset=True)
    content = json.dumps(request | {"profile": load_profile(profile).model_dump(mode="json")})
    return {"content": content.encode(), "headers": {"content-type": "application/json"}}


def _allocation(response: httpx2.Response) -> Allocation:
    status = HTTPStatus(response.status_code)
    try:
        if response.is_success:
            return StoredAllocation.model_validate_json(response.content)
        details = ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        said = response.text[:200] or response.reason_phrase
        raise ServiceError(f"the service answered {status}: {said}", status) from None
    if status is HTTPStatus.UNPROCESSABLE_ENTITY and details.errors:
        # The service points into the body, where the profile is a field; the library points into the profile.
        raise InvalidInputError(
            *(Fault(item.pointer.removeprefix("/profile"), item.detail) for item in details.errors)
        )
    raise ServiceError(f"the service answered {status}: {details.detail}", status)
