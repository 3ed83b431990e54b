"""Stored profiles and allocations for workers, each only to its owner."""

from __future__ import annotations

import time
from collections import OrderedDict
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool

from api.problems.problem import ProblemError
from api.store import Store
from api.store.allocations import allocation_answer
from api.store.profiles import has_profile, profile_body
from api.workers.task import Allocations, Profiles

#: A profile that its owner deletes at another service can be planned with here for so long.
_REMEMBERED_S = 1.0
_MOST_REMEMBERED = 10_000


class OwnedProfiles:
    """Hands profiles to workers, and remembers for a moment whose they are.

    To ask the database before each of many plans of one profile would take as long as the plans.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._deletions = 0

    def of(self, owner: str) -> Profiles:
        """Return what hands out an owner's profiles, for ``api.workers.Task.profiles``."""

        async def hand_out(sha256: str, known: bool) -> bytes:
            now, deletions = time.monotonic(), self._deletions
            if known and self._asked_at.get((owner, sha256), -_REMEMBERED_S) + _REMEMBERED_S > now:
                return b""
            if known:
                body = b"" if await run_in_threadpool(has_profile, self._store, owner, sha256) else None
            else:
                body = await run_in_threadpool(profile_body, self._store, owner, sha256)
            if body is None:
                detail = f"there is no profile {sha256}; PUT it to /v1/profiles/{sha256} first"
                raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-profile", detail)
            if (
                deletions == self._deletions
            ):  # else the database may have been asked before, and this be the later
                self._remember(owner, sha256, now)
            return body

        return hand_out

    def forget(self, owner: str, sha256: str) -> None:
        """Ask the database again, now that a profile is deleted."""
        self._deletions += 1
        self._asked_at.pop((owner, sha256), None)

    def _remember(self, owner: str, sha256: str, now: float) -> None:
        self._asked_at.pop((owner, sha256), None)
        self._asked_at[owner, sha256] = now
        if len(self._asked_at) > _MOST_REMEMBERED:
            self._asked_at.popitem(last=False)


def allocations_for(owner: str, store: Store) -> Allocations:
    """Return what hands an owner's allocations to workers, for ``api.workers.Task.allocations``."""

    async def hand_out(identifier: str) -> bytes:
        answer = await run_in_threadpool(allocation_answer, store, owner, identifier)
        if answer is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "no-such-allocation", f"there is no allocation {identifier}"
            )
        return answer

    return hand_out
