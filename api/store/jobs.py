"""Jobs in the database. Whoever changes a job's state says from which one, so that each change happens once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, update

from api.store.database import Store
from api.store.pages import Page, page_of
from api.store.tables import job_events, jobs, replicas

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
_OPEN = (QUEUED, RUNNING)


@dataclass(frozen=True)
class StoredJob:
    """A job without its request.

    Attributes:
        id: Made by :func:`~api.ids.new_id`; also the id of its first allocation.
        owner: Whose it is.
        state: ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``.
        replica: The service that runs it, or took it in.
        progress: What it reported last.
        problem: Why it failed: the members of a problem document.
        plans: How many allocations it makes; 0 until it is known.
        started_at: When a worker began, in seconds since 1970.
        ended_at: When it ended.
    """

    id: str
    owner: str
    state: str
    replica: str
    progress: Mapping[str, Any] | None
    problem: Mapping[str, Any] | None
    plans: int
    started_at: float | None
    ended_at: float | None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state not in _OPEN


_COLUMNS = tuple(jobs.c[name] for name in StoredJob.__dataclass_fields__)


def add_job(connection: Connection, job: StoredJob, request: bytes) -> None:
    """Keep a job.

    Args:
        request: The body as it came, gzipped.
    """
    values = vars(job) | {"progress": _text(job.progress), "problem": None, "request": request}
    connection.execute(insert(jobs).values(values))


def find_job(store: Store, identifier: str, owner: str | None = None) -> StoredJob | None:
    """Look a job up.

    Args:
        owner: Only if it is this owner's; None for anybody's.

    Returns:
        The job, if there is one.
    """
    query = select(*_COLUMNS).where(jobs.c.id == identifier)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    with store.reading() as connection:
        row = connection.execute(query).first()
    return None if row is None else _stored(row)


def list_jobs(store: Store, owner: str, limit: int, cursor: str | None) -> Page[StoredJob]:
    """List jobs, newest first.

    Args:
        cursor: Where the page before ended; None for the first.

    Returns:
        A page.
    """
    return page_of(store, select(*_COLUMNS).where(jobs.c.owner == owner), jobs.c.id, limit, cursor, _stored)


def job_counts(store: Store) -> dict[str, int]:
    """Return how many jobs have not ended, by state."""
    query = select(jobs.c.state, func.count()).where(jobs.c.state.in_(_OPEN)).group_by(jobs.c.state)
    with store.reading() as connection:
        return dict.fromkeys(_OPEN, 0) | {row[0]: row[1] for row in connection.execute(query)}


@dataclass(frozen=True)
class ClaimedJob:
    """A job that a service took.

    Attributes:
        id: Its id.
        owner: Whose it is.
        request: The body as it came, gzipped.
    """

    id: str
    owner: str
    request: bytes


def claim_job(store: Store, replica: str) -> ClaimedJob | None:
    """Take a job out of the queue: it is running here from now on, and nowhere else.

    First the jobs of whoever has the fewest running, of those the oldest.

    Args:
        replica: Who takes it; nobody who was declared gone may.

    Returns:
        The job; None where none is queued.
    """
    busy = jobs.alias()
    running = (
        select(func.count()).where(busy.c.owner == jobs.c.owner, busy.c.state == RUNNING).scalar_subquery()
    )
    # PostgreSQL passes over a job that another service is about to take; SQLite has one writer anyway.
    first = select(jobs.c.id).where(jobs.c.state == QUEUED).order_by(running, jobs.c.id).limit(1)
    first = first.with_for_update(skip_locked=True, of=jobs)
    mine = (
        jobs.c.id == first.scalar_subquery(),
        jobs.c.state == QUEUED,
        exists().where(replicas.c.id == replica),
    )
    values = {"state": RUNNING, "replica": replica, "started_at": time.time()}
    claim = update(jobs).where(*mine).values(values).returning(jobs.c.id, jobs.c.owner, jobs.c.request)
    with store.writing() as connection:
        row = connection.execute(claim).first()
    return None if row is None else ClaimedJob(*row)


def end_job(
    connection: Connection,
    identifier: str,
    state: str,
    *,
    replica: str | None = None,
    problem: Mapping[str, Any] | None = None,
    plans: int = 0,
) -> str | None:
    """End a job, unless somebody else did.

    Args:
        replica: Only if it is still this one's; None whoever runs it.

    Returns:
        Whose it is; None where this call did not end it.
    """
    mine = [jobs.c.id == identifier, jobs.c.state.in_(_OPEN)]
    if replica is not None:
        mine.append(jobs.c.replica == replica)
    values = {
        "state": state,
        "problem": _text(problem),
        "plans": plans,
        "ended_at": time.time(),
        "request": None,
    }
    return connection.execute(update(jobs).where(*mine).values(values).returning(jobs.c.owner)).scalar()


def requeue_orphans(connection: Connection) -> int:
    """Put the jobs that nobody runs any more back into the queue.

    Returns:
        How many.
    """
    orphaned = jobs.c.state == RUNNING, jobs.c.replica.not_in(select(replicas.c.id))
    return connection.execute(update(jobs).where(*orphaned).values(state=QUEUED)).rowcount


def add_progress(store: Store, identifier: str, replica: str, facts: Sequence[Mapping[str, Any]]) -> bool:
    """Keep the progress of a job.

    Args:
        facts: The progress, oldest first; may be empty.

    Returns:
        Whether the job is still this replica's to run.
    """
    mine = jobs.c.id == identifier, jobs.c.state == RUNNING, jobs.c.replica == replica
    with store.writing() as connection:
        latest = {"progress": _text(facts[-1])} if facts else {"replica": replica}
        if not connection.execute(update(jobs).where(*mine).values(latest)).rowcount:
            return False
        query = select(func.max(job_events.c.number)).where(job_events.c.job == identifier)
        last = connection.execute(query).scalar() or 0
        rows = [
            {"job": identifier, "number": last + at, "facts": json.dumps(item)}
            for at, item in enumerate(facts, 1)
        ]
        if rows:
            connection.execute(insert(job_events), rows)
        return True


def progress_since(store: Store, identifier: str, number: int) -> list[tuple[int, dict[str, Any]]]:
    """Read the progress of a job.

    Args:
        number: Of the last one that is known already.

    Returns:
        Number and facts of each report of progress, oldest first.
    """
    query = select(job_events.c.number, job_events.c.facts).where(
        job_events.c.job == identifier, job_events.c.number > number
    )
    with store.reading() as connection:
        rows = connection.execute(query.order_by(job_events.c.number)).all()
    return [(row.number, json.loads(row.facts)) for row in rows]


def _stored(row: Any) -> StoredJob:  # noqa: ANN401 - rows have the columns of their query
    fields = dict(row._mapping)
    for name in ("progress", "problem"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return StoredJob(**fields)


def _text(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
