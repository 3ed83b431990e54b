"""A service that forgets soon: jobs, events, keys and plans go, what runs stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.api.helpers import problem_of, tiny
from tests.api.postgres import Postgres
from tests.api.replicas import Replica, eventually, replicas

PATH = "/v1/allocations"
SLOW = {"profile": tiny(), "solver": "slow"}
SOON = {"keep_jobs_s": 2, "keep_idempotency_s": 2, "keep_allocations_s": 2}


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "notes"
    yield path
    Path(f"{path}.end").touch()


def _gone(replica: Replica, *paths: str) -> None:
    for path in paths:
        eventually(lambda at=path: replica.http.get(at).status_code == 404)


def _forgets(replicas: list[Replica], notes: Path) -> None:
    first, last = replicas[0], replicas[-1]
    keys = {"idempotency-key": "k"}
    queued = first.http.post(PATH, json={"profile": tiny()}, headers={"prefer": "respond-async"})
    slow = first.http.post(PATH, json=SLOW, headers={"prefer": "wait=0.2"}).headers["location"]
    plan = first.http.post(PATH, json={"profile": tiny()}, headers=keys)
    job = queued.headers["location"]
    _gone(last, job, plan.headers["location"], f"{PATH}/{queued.json()['id']}")
    again = eventually(
        lambda: (
            (answer := last.http.post(PATH, json={"profile": tiny(), "gap": 0.5}, headers=keys)).status_code
            == 200
            and answer
        )
    )
    assert "idempotency-replayed" not in again.headers
    # What runs, runs on, and is known until it has ended.
    assert last.http.get(slow).json()["state"] == "running"
    assert 'bitalloc_jobs{state="running"} 1.0' in last.http.get("/metrics").text
    problem_of(first.http.delete(job), 404)
    Path(f"{notes}.end").touch()
    eventually(lambda: last.http.get(slow).status_code == 404 or last.http.get(slow).json()["ended_at"])
    _gone(last, slow)
    assert last.http.get("/v1/jobs").json()["items"] == []


@pytest.mark.long
def test_a_service_forgets(notes: Path, tmp_path: Path) -> None:
    with replicas(notes, {"data_dir": tmp_path, **SOON}) as running:
        _forgets(running, notes)
        with sqlite3.connect(tmp_path / "bitalloc.db") as database:
            assert database.execute("SELECT count(*) FROM job_events").fetchone() == (0,)


@pytest.mark.long
def test_replicas_forget_together(notes: Path, postgres: Postgres) -> None:
    url = postgres.url()
    each: dict[str, object] = {"database_url": url, "workers": 2, **SOON}
    with replicas(notes, each, each) as running:
        _forgets(running, notes)
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as database:
            assert database.execute("SELECT count(*) FROM job_events").fetchone() == (0,)
