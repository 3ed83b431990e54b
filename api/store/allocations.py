"""What was planned, in the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from api.store.database import Store
from api.store.pages import Page, page_of
from api.store.tables import allocations


@dataclass(frozen=True)
class StoredAllocation:
    """One answer without its body.

    Attributes:
        id: Made by :func:`~api.ids.new_id`.
        profile_sha256: The profile it is about.
        status: The solver's status.
        version: Version of bitalloc that computed it.
    """

    id: str
    profile_sha256: str
    status: str
    version: str


@dataclass(frozen=True)
class NewAllocation(StoredAllocation):
    """One answer to keep.

    Attributes:
        request: What was asked, without the profile; gzipped JSON.
        answer: The whole answer, gzipped JSON.
    """

    request: bytes
    answer: bytes


_COLUMNS = tuple(allocations.c[name] for name in StoredAllocation.__dataclass_fields__)


def add_allocations(connection: Connection, owner: str, rows: list[NewAllocation]) -> None:
    """Keep answers."""
    connection.execute(insert(allocations), [vars(row) | {"owner": owner} for row in rows])


def allocation_answer(store: Store, owner: str, identifier: str) -> bytes | None:
    """Return an answer, gzipped JSON; None where the owner has no such allocation."""
    mine = allocations.c.owner == owner, allocations.c.id == identifier
    with store.reading() as connection:
        return connection.execute(select(allocations.c.answer).where(*mine)).scalar()


def list_allocations(
    store: Store, owner: str, limit: int, cursor: str | None, profile_sha256: str | None = None
) -> Page[StoredAllocation]:
    """List answers, newest first.

    Args:
        cursor: Where the page before ended; None for the first.
        profile_sha256: Only those about this profile.

    Returns:
        A page.
    """
    query = select(*_COLUMNS).where(allocations.c.owner == owner)
    if profile_sha256 is not None:
        query = query.where(allocations.c.profile_sha256 == profile_sha256)
    return page_of(store, query, allocations.c.id, limit, cursor, _stored)


def _stored(row: Any) -> StoredAllocation:  # noqa: ANN401 - rows have the columns of their query
    return StoredAllocation(row.id, row.profile_sha256, row.status, row.version)
