"""Plans that the service keeps, in requests that name them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from allocator import Allocation


class PlannedAllocation(Allocation):
    """An allocation as the service gave it, or as the library or the command wrote it.

    Attributes:
        id: Where the service keeps it.
    """

    id: str | None = None


#: Given the id of an allocation: the allocation. Raises where the caller has no such allocation.
Stored = Callable[[str], PlannedAllocation]
M = TypeVar("M", bound=BaseModel)


def with_stored_plan(asked: M, stored: Stored) -> M:
    """Put the stored allocation where a request names one instead of a plan; its id stays, for faults to point at.

    Args:
        asked: The request, which has the fields ``plan`` and ``allocation_id``.
        stored: Looks an allocation up.

    Returns:
        The request with a plan.
    """
    identifier: str | None = getattr(asked, "allocation_id", None)
    return asked if identifier is None else asked.model_copy(update={"plan": stored(identifier)})
