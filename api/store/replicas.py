"""Signs of life of the services that share a database."""

from __future__ import annotations

import time
from collections.abc import Iterable

from sqlalchemy import delete, insert, select, update

from api.store.database import Store
from api.store.tables import jobs, replicas


def beat(store: Store, replica: str) -> None:
    """Say that a service lives.

    Args:
        store: The database.
        replica: The service.
    """
    with store.writing() as connection:
        now = time.time()
        if not connection.execute(
            update(replicas).where(replicas.c.id == replica).values(seen_at=now)
        ).rowcount:
            connection.execute(insert(replicas).values(id=replica, seen_at=now))


def leave(store: Store, replica: str) -> None:
    """Say that a service has ended; others take over what it had at once.

    Args:
        store: The database.
        replica: The service.
    """
    with store.writing() as connection:
        connection.execute(update(replicas).where(replicas.c.id == replica).values(seen_at=0.0))


def is_alive(store: Store, replica: str, lease_s: float) -> bool:
    """Whether a service gave a sign of life lately.

    Args:
        store: The database.
        replica: The service.
        lease_s: How long ago is too long.

    Returns:
        True if so.
    """
    query = select(replicas.c.seen_at).where(replicas.c.id == replica)
    with store.reading() as connection:
        seen_at = connection.execute(query).scalar()
    return seen_at is not None and seen_at > time.time() - lease_s


def silent(store: Store, lease_s: float) -> list[str]:
    """List the services that gave no sign of life for too long.

    Args:
        store: The database.
        lease_s: How long ago is too long.

    Returns:
        Their ids.
    """
    query = select(replicas.c.id).where(replicas.c.seen_at <= time.time() - lease_s)
    with store.reading() as connection:
        return list(connection.execute(query).scalars())


def forget(store: Store, gone: Iterable[str]) -> None:
    """Forget services that have no jobs left.

    Args:
        store: The database.
        gone: Their ids.
    """
    busy = select(jobs.c.replica).where(jobs.c.ended_at.is_(None))
    with store.writing() as connection:
        connection.execute(delete(replicas).where(replicas.c.id.in_(list(gone)), replicas.c.id.not_in(busy)))
