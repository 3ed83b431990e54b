"""What the service relies on, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError

from api.settings import Settings
from api.store import Store, new_id, open_store
from api.store.allocations import (
    NewAllocation,
    StoredAllocation,
    add_allocations,
    allocation_answer,
    list_allocations,
)
from api.store.idempotency import answer_key, claim_key, release_key, take_over_key
from api.store.jobs import (
    CANCELLED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    ClaimedJob,
    StoredJob,
    add_job,
    add_progress,
    claim_job,
    end_job,
    find_job,
    job_counts,
    list_jobs,
    progress_since,
)
from api.store.pages import Page
from api.store.profiles import delete_profile, has_profile, profile_body, put_profile
from api.store.replicas import beat, declare_gone, is_alive, leave, signs_of_life
from api.store.tables import METADATA

SHA = "a" * 64
SUMMARY = {"model": "m", "layers": 1, "formats": ["f"], "costs": [], "resources": []}


def test_migrations_make_exactly_the_tables_that_the_code_knows(store: Store) -> None:
    found = inspect(store.engine)
    assert set(found.get_table_names()) == set(METADATA.tables) | {"alembic_version"}
    for name, table in METADATA.tables.items():
        columns = {column["name"]: column for column in found.get_columns(name)}
        assert set(columns) == set(table.columns.keys())
        for column in table.columns:
            assert columns[column.name]["nullable"] == column.nullable, (name, column.name)
        assert found.get_pk_constraint(name)["constrained_columns"] == [c.name for c in table.primary_key]


def test_opening_again_keeps_what_is_there(settings: Settings, store: Store) -> None:
    put_profile(store, "me", SHA, SUMMARY, 3, b"abc")
    again = open_store(settings)
    assert profile_body(again, "me", SHA) == b"abc"
    again.close()


def test_services_that_start_together_migrate_once(settings: Settings) -> None:
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: open_store(settings), range(4)))
    for each in stores:
        each.check()
        each.close()


def test_a_profile_belongs_to_its_owner(store: Store) -> None:
    stored, new = put_profile(store, "me", SHA, SUMMARY, 3, b"abc")
    assert new
    assert stored.summary == SUMMARY
    assert put_profile(store, "me", SHA, SUMMARY, 3, b"abc") == (stored, False)
    assert has_profile(store, "me", SHA)
    assert not has_profile(store, "you", SHA)
    assert profile_body(store, "you", SHA) is None
    assert not delete_profile(store, "you", SHA)
    assert put_profile(store, "you", SHA, SUMMARY, 3, b"abc")[1]
    assert delete_profile(store, "me", SHA)
    assert not delete_profile(store, "me", SHA)
    assert profile_body(store, "you", SHA) == b"abc"


def test_two_who_store_the_same_profile_at_once_both_succeed(store: Store) -> None:
    start = threading.Barrier(8)

    def put(_: int) -> bool:
        start.wait()
        return put_profile(store, "me", SHA, SUMMARY, 3, b"abc")[1]

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(put, range(8))) == 1


def _pages(read: Callable[[str | None], Page[StoredAllocation]]) -> list[str]:
    seen, cursor = [], None
    while True:
        page = read(cursor)
        seen += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return seen


def _plan(identifier: str, sha256: str = SHA) -> NewAllocation:
    return NewAllocation(identifier, sha256, "optimal", "1", b"asked", b"answer")


@pytest.mark.parametrize("count", [0, 3, 4, 7])
def test_pages_hold_everything_once_newest_first(store: Store, count: int) -> None:
    ids = [new_id() for _ in range(count)]
    with store.writing() as connection:
        for each in ids:
            add_allocations(connection, "me", [_plan(each)])
        add_allocations(connection, "you", [_plan(new_id())])
    assert _pages(lambda cursor: list_allocations(store, "me", 3, cursor)) == ids[::-1]


def test_pages_stay_true_while_rows_come(store: Store) -> None:
    ids = [new_id() for _ in range(4)]
    with store.writing() as connection:
        add_allocations(connection, "me", [_plan(each) for each in ids])
    first = list_allocations(store, "me", 2, None)
    with store.writing() as connection:
        add_allocations(connection, "me", [_plan(new_id())])
    second = list_allocations(store, "me", 2, first.next_cursor)
    assert [item.id for item in (*first.items, *second.items)] == ids[::-1]
    assert second.next_cursor is None


def test_allocations_are_found_by_id_owner_and_profile(store: Store) -> None:
    one, other = new_id(), new_id()
    with store.writing() as connection:
        add_allocations(connection, "me", [_plan(one), _plan(other, "b" * 64)])
    assert allocation_answer(store, "me", one) == b"answer"
    assert allocation_answer(store, "you", one) is None
    assert [item.id for item in list_allocations(store, "me", 9, None, SHA).items] == [one]


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    identifier = new_id()
    with pytest.raises(ZeroDivisionError), store.writing() as connection:  # noqa: PT012 - all of it is one transaction
        add_allocations(connection, "me", [_plan(identifier)])
        raise ZeroDivisionError
    assert allocation_answer(store, "me", identifier) is None


def test_what_is_stored_is_not_in_errors(store: Store) -> None:
    with store.writing() as connection:
        add_allocations(connection, "me", [_plan("1" * 32)])
    with pytest.raises(IntegrityError, match=r"UNIQUE|unique") as failure, store.writing() as connection:
        add_allocations(connection, "somebody", [_plan("1" * 32)])
    assert "somebody" not in str(failure.value)


def _job(store: Store, replica: str = "r1", state: str = QUEUED, owner: str = "me") -> str:
    job = StoredJob(new_id(), owner, state, replica, None, None, 0, None, None)
    with store.writing() as connection:
        add_job(connection, job, b"asked")
    return job.id


def _claimed(store: Store, replica: str) -> str | None:
    job = claim_job(store, replica)
    return None if job is None else job.id


def test_a_job_goes_from_queued_to_running_to_succeeded(store: Store) -> None:
    beat(store, "r1")
    job = _job(store)
    assert job_counts(store) == {QUEUED: 1, RUNNING: 0}
    assert claim_job(store, "r1") == ClaimedJob(job, "me", b"asked")
    assert job_counts(store) == {QUEUED: 0, RUNNING: 1}
    assert add_progress(store, job, "r1", [{"objective": 1.0}, {"objective": 0.5}])
    assert add_progress(store, job, "r1", [{"objective": 0.25}])
    assert add_progress(store, job, "r1", [])
    assert progress_since(store, job, 1) == [(2, {"objective": 0.5}), (3, {"objective": 0.25})]
    with store.writing() as connection:
        assert end_job(connection, job, SUCCEEDED, replica="r1", plans=2) == "me"
    found = find_job(store, job, "me")
    assert found is not None
    assert (found.state, found.plans, found.progress, found.ended) == (
        SUCCEEDED,
        2,
        {"objective": 0.25},
        True,
    )
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.started_at <= found.ended_at
    assert claim_job(store, "r1") is None
    assert find_job(store, job, "you") is None
    assert [each.id for each in list_jobs(store, "me", 9, None).items] == [job]


def test_each_job_is_claimed_by_exactly_one_of_many(store: Store) -> None:
    services = [f"r{number}" for number in range(6)]
    for each in services:
        beat(store, each)
    made = {_job(store) for _ in range(30)}
    start = threading.Barrier(len(services))

    def claim(replica: str) -> list[str]:
        start.wait()
        claimed = []
        while (job := _claimed(store, replica)) is not None:
            claimed.append(job)
        return claimed

    with ThreadPoolExecutor(len(services)) as threads:
        taken = [job for each in threads.map(claim, services) for job in each]
    # On PostgreSQL somebody may find none while another is about to take the last.
    assert len(taken) == len(set(taken)) == 30
    assert set(taken) == made


def test_who_has_the_fewest_jobs_running_is_next_and_then_the_oldest(store: Store) -> None:
    beat(store, "r1")
    greedy = [_job(store, owner="greedy") for _ in range(3)]
    modest = [_job(store, owner="modest") for _ in range(2)]
    assert [_claimed(store, "r1") for _ in range(5)] == [
        greedy[0],
        modest[0],
        greedy[1],
        modest[1],
        greedy[2],
    ]


def test_a_job_ends_once_and_only_where_it_runs(store: Store) -> None:
    beat(store, "r2")
    beat(store, "r1")
    job = _job(store)
    assert _claimed(store, "r1") == job
    assert declare_gone(store, {"r1": signs_of_life(store)["r1"]}) == 1
    assert _claimed(store, "r2") == job  # taken over
    assert not add_progress(store, job, "r1", [{"objective": 1.0}])
    assert progress_since(store, job, 0) == []
    with store.writing() as connection:
        assert end_job(connection, job, SUCCEEDED, replica="r1", plans=1) is None
        assert end_job(connection, job, CANCELLED) == "me"
        assert end_job(connection, job, SUCCEEDED, replica="r2", plans=1) is None
    assert not add_progress(store, job, "r2", [])


def test_a_service_that_ends_leaves_its_jobs_to_the_others(store: Store) -> None:
    for replica in ("r1", "r2"):
        beat(store, replica)
        _job(store)
        assert _claimed(store, replica) is not None
    leave(store, "r1")
    assert job_counts(store) == {QUEUED: 1, RUNNING: 1}
    assert _claimed(store, "r1") is None  # who is gone takes none
    assert _claimed(store, "r2") is not None


def test_services_give_signs_of_life(store: Store) -> None:
    for replica in ("r1", "r2"):
        beat(store, replica)
        beat(store, replica)
    assert is_alive(store, "r1")
    assert not is_alive(store, "r3")
    leave(store, "r1")
    assert not is_alive(store, "r1")
    assert set(signs_of_life(store)) == {"r2"}


def test_a_service_that_gives_another_sign_is_not_declared_gone(store: Store) -> None:
    beat(store, "r1")
    before = signs_of_life(store)
    job = _job(store)
    assert _claimed(store, "r1") == job
    time.sleep(0.01)
    beat(store, "r1")
    assert declare_gone(store, before) == 0
    assert is_alive(store, "r1")
    assert job_counts(store) == {QUEUED: 0, RUNNING: 1}


def test_a_key_is_claimed_by_exactly_one_of_many(store: Store) -> None:
    start = threading.Barrier(8)

    def claim(number: int) -> bool:
        start.wait()
        return claim_key(store, "me", "k", "h", f"r{number}") is None

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(claim, range(8))) == 1


def test_a_key_gives_its_answer_again(store: Store) -> None:
    assert claim_key(store, "me", "k", "h", "r1") is None
    assert claim_key(store, "you", "k", "h", "r1") is None
    before = claim_key(store, "me", "k", "other", "r2")
    assert before is not None
    assert (before.asked_sha256, before.replica, before.status) == ("h", "r1", None)
    with store.writing() as connection:
        answer_key(connection, "me", "k", 200, {"location": "/x"}, b"packed")
    before = claim_key(store, "me", "k", "h", "r2")
    assert before is not None
    assert (before.status, before.headers, before.answer) == (200, {"location": "/x"}, b"packed")


def test_an_old_key_can_be_used_anew_once_it_was_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("answered", "in flight"):
        assert claim_key(store, "me", key, "h", "r1", 10) is None
    with store.writing() as connection:
        answer_key(connection, "me", "answered", 200, {}, b"")
    assert claim_key(store, "me", "answered", "other", "r1", 10) is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 11)
    assert claim_key(store, "me", "answered", "other", "r1", 10) is None
    assert claim_key(store, "me", "in flight", "other", "r1", 10) is not None


def test_a_key_can_be_released_or_taken_over(store: Store) -> None:
    claim_key(store, "me", "k", "h", "r1")
    release_key(store, "me", "k")
    assert claim_key(store, "me", "k", "h", "r1") is None
    assert take_over_key(store, "me", "k", "r1", "r2")
    assert not take_over_key(store, "me", "k", "r1", "r3")
    with store.writing() as connection:
        answer_key(connection, "me", "k", 200, {}, b"")
    assert not take_over_key(store, "me", "k", "r2", "r3")
    release_key(store, "me", "k")  # an answer stays
    assert claim_key(store, "me", "k", "h", "r1") is not None
