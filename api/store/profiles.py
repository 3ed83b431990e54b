"""Profiles in the database: by owner and digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from api.ids import new_id
from api.store.database import Store
from api.store.pages import Page, page_of
from api.store.tables import profiles


@dataclass(frozen=True)
class StoredProfile:
    """A profile without its body.

    Attributes:
        sha256: Its digest.
        added: When it was added, as :func:`~api.ids.new_id`.
        summary: What it holds, for lists.
        size_bytes: Length of its canonical JSON.
    """

    sha256: str
    added: str
    summary: dict[str, Any]
    size_bytes: int


_COLUMNS = (profiles.c.sha256, profiles.c.added, profiles.c.summary, profiles.c.size_bytes)


def put_profile(
    store: Store, owner: str, sha256: str, summary: dict[str, Any], size_bytes: int, body: bytes
) -> tuple[StoredProfile, bool]:
    """Keep a profile; one that is already there stays as it is.

    Args:
        summary: What it holds, for lists.
        size_bytes: Length of its canonical JSON.
        body: The canonical JSON, gzipped.

    Returns:
        What is stored, and whether it is new.
    """
    stored = StoredProfile(sha256, new_id(), summary, size_bytes)
    values = vars(stored) | {"owner": owner, "summary": json.dumps(summary), "body": body}
    try:
        with store.writing() as connection:
            connection.execute(insert(profiles).values(values))
    except IntegrityError:
        with store.reading() as connection:
            row = connection.execute(select(*_COLUMNS).where(*_mine(owner, sha256))).first()
        if row is None:  # deleted a moment ago
            return put_profile(store, owner, sha256, summary, size_bytes, body)
        return _stored(row), False
    return stored, True


def has_profile(store: Store, owner: str, sha256: str) -> bool:
    """Return whether an owner has a profile."""
    with store.reading() as connection:
        return connection.execute(select(profiles.c.sha256).where(*_mine(owner, sha256))).first() is not None


def profile_body(store: Store, owner: str, sha256: str) -> bytes | None:
    """Return the canonical JSON of a profile, gzipped; None where the owner has no such profile."""
    with store.reading() as connection:
        return connection.execute(select(profiles.c.body).where(*_mine(owner, sha256))).scalar()


def delete_profile(store: Store, owner: str, sha256: str) -> bool:
    """Forget a profile; what was planned with it stays.

    Returns:
        Whether there was one.
    """
    gone = delete(profiles).where(*_mine(owner, sha256))
    return store.freeing(lambda connection: connection.execute(gone).rowcount > 0)


def list_profiles(store: Store, owner: str, limit: int, cursor: str | None) -> Page[StoredProfile]:
    """List profiles, newest first.

    Args:
        cursor: Where the page before ended; None for the first.

    Returns:
        A page.
    """
    query = select(*_COLUMNS).where(profiles.c.owner == owner)
    return page_of(store, query, profiles.c.added, limit, cursor, _stored)


def _mine(owner: str, sha256: str) -> tuple[Any, ...]:
    return profiles.c.owner == owner, profiles.c.sha256 == sha256


def _stored(row: Any) -> StoredProfile:  # noqa: ANN401 - rows have the columns of their query
    return StoredProfile(row.sha256, row.added, json.loads(row.summary), row.size_bytes)
