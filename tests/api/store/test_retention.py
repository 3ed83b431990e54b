"""What is old is forgotten, and nothing else; on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, insert, select

from api.store import Store, new_id
from api.store.allocations import NewAllocation, add_allocations, list_allocations
from api.store.idempotency import answer_key, claim_key
from api.store.jobs import (
    CANCELLED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    StoredJob,
    add_job,
    add_progress,
    claim_job,
    end_job,
    job_counts,
    list_jobs,
    progress_since,
)
from api.store.replicas import beat
from api.store.retention import BATCH, forget_allocations, forget_jobs, forget_keys
from api.store.tables import idempotency, job_events

DAY_S = 86_400.0


def _later() -> float:
    return time.time() + DAY_S


def _job(store: Store, end: str | None = None, *, begun: bool = True) -> str:
    job = StoredJob(new_id(), "me", QUEUED, "r1", None, None, 0, None, None)
    with store.writing() as connection:
        add_job(connection, job, b"asked")
    if begun:
        beat(store, "r1")
        claimed = claim_job(store, "r1")
        assert claimed is not None
        assert claimed.id == job.id
        add_progress(store, job.id, "r1", [{"objective": 1.0}, {"objective": 0.5}])
    if end is not None:
        with store.writing() as connection:
            assert end_job(connection, job.id, end, plans=1)
    return job.id


def _known(store: Store) -> list[str]:
    return [job.id for job in list_jobs(store, "me", 100, None).items]


def _plan(store: Store, identifier: str) -> str:
    with store.writing() as connection:
        plan = NewAllocation(identifier, "a" * 64, "optimal", "1", b"asked", b"answer")
        add_allocations(connection, "me", [plan])
    return identifier


def _plans(store: Store) -> list[str]:
    return [plan.id for plan in list_allocations(store, "me", 100, None).items]


def test_jobs_that_ended_are_forgotten_with_their_events(store: Store) -> None:
    running = _job(store)
    for end in (SUCCEEDED, FAILED, CANCELLED):
        _job(store, end)
    queued = _job(store, begun=False)
    assert forget_jobs(store, time.time() - DAY_S) == 0
    assert len(_known(store)) == 5
    assert forget_jobs(store, _later()) == 3
    assert _known(store) == [queued, running]
    assert job_counts(store) == {QUEUED: 1, RUNNING: 1}
    assert len(progress_since(store, running, 0)) == 2
    with store.reading() as connection:
        assert connection.execute(select(func.count()).select_from(job_events)).scalar() == 2
    assert forget_jobs(store, _later()) == 0


def test_plans_are_forgotten_after_their_jobs(store: Store) -> None:
    done, running = _job(store, SUCCEEDED), _job(store)
    second = f"{int(done, 16) + 1:032x}"  # a batch counts its plans on from the job's id
    alone = _plan(store, new_id())
    for each in (done, second, running):
        _plan(store, each)
    assert forget_allocations(store, time.time() - DAY_S) == 0
    assert forget_allocations(store, -1.0) == 0
    assert forget_allocations(store, _later()) == 1
    assert alone not in _plans(store)
    assert len(_plans(store)) == 3
    assert forget_jobs(store, _later()) == 1
    assert forget_allocations(store, _later()) == 2
    assert _plans(store) == [running]


def test_keys_are_forgotten_unless_a_living_service_works_on_them(store: Store) -> None:
    beat(store, "living")
    for key, replica in (("answered", "living"), ("in flight", "living"), ("abandoned", "dead")):
        assert claim_key(store, "me", key, "h", replica) is None
    with store.writing() as connection:
        answer_key(connection, "me", "answered", 200, {}, b"packed")
    assert forget_keys(store, time.time() - DAY_S) == 0
    assert forget_keys(store, _later()) == 2
    assert claim_key(store, "me", "in flight", "h", "r") is not None
    assert claim_key(store, "me", "answered", "other", "r") is None


def _many_keys(store: Store, count: int) -> None:
    common = {"owner": "me", "asked_sha256": "h", "replica": "gone", "made_at": 0.0, "status": 200}
    with store.writing() as connection:
        connection.execute(insert(idempotency), [common | {"key": str(number)} for number in range(count)])


def test_much_is_forgotten_in_batches(store: Store) -> None:
    _many_keys(store, BATCH + 2)
    assert [forget_keys(store, 1.0) for _ in range(3)] == [BATCH, 2, 0]


@pytest.mark.parametrize("services", [4])
def test_services_that_forget_at_once_forget_each_row_once(store: Store, services: int) -> None:
    _many_keys(store, 3 * BATCH)
    start = threading.Barrier(services)

    def sweep(_: int) -> int:
        start.wait()
        total = 0
        while count := forget_keys(store, 1.0):
            total += count
        return total

    with ThreadPoolExecutor(services) as threads:
        assert sum(threads.map(sweep, range(services))) == 3 * BATCH
