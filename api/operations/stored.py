"""Requests that name a stored allocation, with the allocation in place of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from api.operations.comparison import ComparisonRequest
from api.operations.export import ExportRequest, PlannedAllocation
from api.operations.lint import LintRequest
from bitalloc.operations import Side

#: Given the id of an allocation: the allocation. Raises where the caller has no such allocation.
Stored = Callable[[str], PlannedAllocation]
M = TypeVar("M", bound=BaseModel)


def with_stored(asked: M, stored: Stored) -> M:
    """Put stored allocations where a request names them; their ids stay, so that faults can point at them.

    Args:
        asked: The request.
        stored: Looks an allocation up.

    Returns:
        The request with plans.

    Example:
        >>> request = ExportRequest(plan={"up": "int4"}, target="mlx")
        >>> with_stored(request, lambda identifier: 1 / 0) == request
        True
    """
    plans: dict[str, object] = {}
    if isinstance(asked, ComparisonRequest):
        plans = {"first": _side(asked.first, stored), "second": _side(asked.second, stored)}
    elif isinstance(asked, ExportRequest | LintRequest) and asked.allocation_id is not None:
        plans = {"plan": stored(asked.allocation_id)}
    return asked.model_copy(update=plans)


def _side(side: Side, stored: Stored) -> Side:
    if side.allocation_id is None:
        return side
    plan = stored(side.allocation_id)
    return side.model_copy(update={"assignment": plan.assignment, "fusions": plan.fusions})
