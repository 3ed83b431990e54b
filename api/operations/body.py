"""Where a fault of the library lies in the body of a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from allocator import Fault, InvalidInputError, Profile

_OF_PROFILE = {field: f"/profile/{field}" for field in Profile.model_fields}


@contextmanager
def pointing_into_body(
    members: Mapping[str, str] | None = None, *, otherwise: str | None = None
) -> Iterator[None]:
    """Turn pointers into the profile or the request into pointers into the body, which holds both.

    Args:
        members: First member of a pointer → where that member lies in the body. Fields of a profile lie in
            ``/profile`` unless this says otherwise.
        otherwise: Pointer to the part of the body that all other pointers go into, those of a profile too; absent
            where they are right already.

    Yields:
        Nothing; the faults of the block are raised again with their pointers moved.

    Raises:
        InvalidInputError: The block raised one.

    Example:
        >>> with pointing_into_body():
        ...     raise InvalidInputError(Fault("/layers/0", "odd"), Fault("/gap", "odd"))
        Traceback (most recent call last):
        allocator.contract.errors.InvalidInputError: /profile/layers/0: odd
        /gap: odd
    """
    places = {**({} if otherwise is not None else _OF_PROFILE), **(members or {})}
    try:
        yield
    except InvalidInputError as error:
        faults = (in_body(fault, places, otherwise or "") for fault in error.faults)
        raise InvalidInputError(*faults) from error


def in_body(fault: Fault, members: Mapping[str, str] = _OF_PROFILE, otherwise: str = "") -> Fault:
    """Move a fault of the library into the body of a request.

    Args:
        fault: The fault; it points into the profile or into the request.
        members: First member of a pointer → where that member lies in the body.
        otherwise: Pointer to the part of the body that all other pointers go into.

    Returns:
        The same fault, pointing into the body.
    """
    member, slash, rest = fault.pointer.removeprefix("/").partition("/")
    place = members[member] + slash + rest if member in members else otherwise + fault.pointer
    return Fault(place, fault.detail)
