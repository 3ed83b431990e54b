"""How much of the database is whose."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from api.store.database import Store
from api.store.jobs import QUEUED, RUNNING
from api.store.tables import allocations, idempotency, jobs, profiles

_BODIES = (
    (profiles, (profiles.c.body,)),
    (allocations, (allocations.c.request, allocations.c.answer)),
    (jobs, (jobs.c.request,)),
    (idempotency, (idempotency.c.answer,)),
)


def stored_bytes(store: Store, owner: str) -> int:
    """Measure what an owner stores; takes some microseconds for each row.

    Returns:
        Bytes of profiles, plans, jobs and answers, packed.
    """
    total = 0
    with store.reading() as connection:
        for table, columns in _BODIES:
            sizes = [func.coalesce(func.sum(func.length(column)), 0) for column in columns]
            total += sum(connection.execute(select(*sizes).where(table.c.owner == owner)).one())
    return total


def open_jobs(connection: Connection, owner: str) -> int:
    """Count an owner's jobs that have not ended.

    Args:
        connection: In a transaction.

    Returns:
        Their number.
    """
    mine = jobs.c.owner == owner, jobs.c.state.in_((QUEUED, RUNNING))
    return connection.execute(select(func.count()).select_from(jobs).where(*mine)).scalar_one()
