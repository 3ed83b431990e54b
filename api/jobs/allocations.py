"""Stored allocations for workers, each only to its owner."""

from __future__ import annotations

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool

from api.problems.problem import ProblemError
from api.store import Store
from api.store.allocations import allocation_answer
from api.workers.task import Allocations


def allocations_for(owner: str, store: Store) -> Allocations:
    """Hand an owner's allocations to workers.

    Returns:
        For ``api.workers.Task.allocations``.
    """

    async def hand_out(identifier: str) -> bytes:
        answer = await run_in_threadpool(allocation_answer, store, owner, identifier)
        if answer is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "no-such-allocation", f"there is no allocation {identifier}"
            )
        return answer

    return hand_out
