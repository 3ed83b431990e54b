"""Stored profiles for workers, each only to its owner."""

from __future__ import annotations

from http import HTTPStatus

from api.blocking import blocking
from api.problems import ProblemError
from api.store import Store
from api.store.profiles import has_profile, profile_body
from api.work.task import Profiles


def profiles_for(owner: str, store: Store) -> Profiles:
    """Hand an owner's profiles to workers.

    Args:
        owner: The owner.
        store: The database.

    Returns:
        For :attr:`api.work.Task.profiles`.
    """

    async def hand_out(sha256: str, known: bool) -> bytes:
        if known:
            body = b"" if await blocking(has_profile, store, owner, sha256) else None
        else:
            body = await blocking(profile_body, store, owner, sha256)
        if body is None:
            detail = f"there is no profile {sha256}; PUT it to /v1/profiles/{sha256} first"
            raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-profile", detail)
        return body

    return hand_out
