"""Who is gone is told by the watcher's own clock: those of other machines differ, and are set."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.jobs.leases import Watch
from api.settings import Settings
from api.store import open_store
from api.store.jobs import QUEUED, RUNNING, StoredJob, add_job, claim_job, job_counts
from api.store.replicas import beat, declare_gone, signs_of_life
from tests.api.helpers import tiny
from tests.api.replicas import eventually, noted, replicas

PATH = "/v1/allocations"


def test_who_gives_new_signs_lives_whatever_its_clock_says() -> None:
    watch = Watch(2.0)
    for now, sign in ((0.0, 1e9), (1.0, 1e9 + 1), (2.0, 5.0), (3.0, 6.0), (4.0, 7.0)):  # set back by years
        assert watch.silent({"r": sign}, now) == {}


@pytest.mark.parametrize("sign", [0.0, 1e9, 1e12])
def test_who_gives_none_is_gone_after_a_lease_whatever_its_clock_says(sign: float) -> None:
    watch = Watch(2.0)
    assert [watch.silent({"r": sign}, now) for now in (0.0, 1.0, 2.0, 3.0)] == [
        {},
        {},
        {"r": sign},
        {"r": sign},
    ]


def test_who_slept_lets_the_others_wake_up() -> None:
    watch = Watch(2.0)
    watch.silent({"r": 1.0}, 0.0)
    assert watch.silent({"r": 1.0}, 60.0) == {}
    assert watch.silent({"r": 1.0}, 61.0) == {}
    assert watch.silent({"r": 1.0}, 62.0) == {"r": 1.0}


def test_after_the_database_was_away_everybody_gets_a_lease() -> None:
    watch = Watch(2.0)
    watch.silent({"r": 1.0}, 0.0)
    watch.silent({"r": 1.0}, 1.5)
    watch.restart()
    assert watch.silent({"r": 1.0}, 2.5) == {}
    assert watch.silent({"r": 1.0}, 4.5) == {"r": 1.0}


def test_a_job_whose_service_has_no_row_is_nobodys(tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path))
    beat(store, "r1")
    with store.writing() as connection:
        add_job(
            connection, StoredJob("1" * 32, "me", RUNNING, "forgotten", None, None, 0, None, None), b"asked"
        )
    assert declare_gone(store, {}) == 1
    assert job_counts(store) == {QUEUED: 1, RUNNING: 0}
    assert claim_job(store, "r1") is not None
    store.close()


def test_a_service_whose_clock_was_set_back_takes_over_what_another_left(tmp_path: Path) -> None:
    settings = {"data_dir": tmp_path / "data", "lease_s": 1}
    notes = tmp_path / "notes"
    slow = {"profile": tiny(), "solver": "slow"}
    with replicas(notes, settings) as (first,):
        location = first.http.post(PATH, json=slow, headers={"prefer": "respond-async"}).headers["location"]
        eventually(lambda: noted(notes, "began"))
        first.kill()
    store = open_store(Settings(data_dir=tmp_path / "data"))
    (gone,) = signs_of_life(store)
    with store.writing() as connection:  # its last sign, to a service whose clock is a year behind
        connection.exec_driver_sql("UPDATE replicas SET seen_at = seen_at + 31536000 WHERE id = ?", (gone,))
    store.close()
    Path(f"{notes}.end").touch()
    with replicas(notes, settings) as (second,):
        assert eventually(lambda: second.http.get(location).json()["state"] == "succeeded")
