"""Signs of life of the services that share a database. Whoever has a row lives; the jobs of the others are nobody's."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import delete, insert, select, update

from api.store.database import Store
from api.store.jobs import requeue_orphans
from api.store.tables import replicas


def beat(store: Store, replica: str) -> None:
    """Say that a service lives."""
    with store.writing() as connection:
        now = time.time()
        mine = update(replicas).where(replicas.c.id == replica).values(seen_at=now)
        if not connection.execute(mine).rowcount:
            connection.execute(insert(replicas).values(id=replica, seen_at=now))


def signs_of_life(store: Store) -> dict[str, float]:
    """Read who lives.

    Returns:
        Service to its last sign. It says that there was a new one, not when: clocks differ, and are set.
    """
    with store.reading() as connection:
        return {row.id: row.seen_at for row in connection.execute(select(replicas))}


def is_alive(store: Store, replica: str) -> bool:
    """Return whether a service has not been declared gone."""
    with store.reading() as connection:
        return connection.execute(select(replicas.c.id).where(replicas.c.id == replica)).first() is not None


def declare_gone(store: Store, silent: Mapping[str, float]) -> int:
    """Declare services gone, and put what they ran back into the queue.

    Args:
        silent: Service to the last sign that was seen of it; one that gave another meanwhile lives.

    Returns:
        How many jobs are queued again.
    """
    with store.writing() as connection:
        for replica, seen_at in silent.items():
            still = replicas.c.id == replica, replicas.c.seen_at == seen_at
            connection.execute(delete(replicas).where(*still))
        return requeue_orphans(connection)


def leave(store: Store, replica: str) -> None:
    """Say that a service ends, and put what it ran back into the queue."""
    with store.writing() as connection:
        connection.execute(delete(replicas).where(replicas.c.id == replica))
        requeue_orphans(connection)
