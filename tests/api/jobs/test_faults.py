"""Services and databases that die: nothing that was accepted is lost, and nothing is done twice."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import event

from api.app import create_app
from api.settings import Settings
from tests.api.helpers import problem_of, random_profile, serving, tiny
from tests.api.postgres import Postgres, postgres_server
from tests.api.replicas import alive, eventually, noted, replicas

PATH = "/v1/allocations"
SLOW = {"profile": tiny(), "solver": "slow"}
LEASE_S = 2


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "notes"
    yield path
    Path(f"{path}.end").touch()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that a test may stop."""
    with postgres_server() as server:
        yield server


def _shared(url: str, **more: object) -> dict[str, object]:
    return {"database_url": url, "lease_s": LEASE_S, "workers": 2, **more}


def timed(began: float) -> None:
    """Tell how long ago something was, in the report that ``pytest -rP`` gives."""
    sys.stdout.write(f"back after {time.monotonic() - began:.1f} s\n")


@pytest.mark.long
def test_another_replica_finishes_the_job_of_one_that_was_killed(postgres: Postgres, notes: Path) -> None:
    url = postgres.url()
    with replicas(notes, _shared(url), _shared(url)) as (first, second):
        locations = [
            first.http.post(PATH, json=SLOW, headers={"prefer": prefer}).headers["location"]
            for prefer in ("wait=1", "wait=1")
        ]
        began = eventually(lambda: (seen := noted(notes, "began")) and len(seen) == 2 and seen)
        first.kill()
        killed = time.monotonic()
        assert eventually(lambda: not any(alive(solver) for solver, _ in began))
        # Both begin anew at the other, which meanwhile answers.
        assert second.http.post(PATH, json={"profile": tiny()}).status_code == 200
        eventually(lambda: len(noted(notes, "began")) == 4)
        timed(killed)
        Path(f"{notes}.end").touch()
        for location in locations:
            job = eventually(lambda at=location: (now := second.http.get(at).json())["ended_at"] and now)
            assert job["state"] == "succeeded"
            assert second.http.get(job["allocations"][0]).status_code == 200
        assert len(noted(notes, "ended")) == 2
        assert len(second.http.get(PATH).json()["items"]) == 3


@pytest.mark.long
def test_a_service_that_is_told_to_end_hands_its_jobs_back(tmp_path: Path, notes: Path) -> None:
    settings: dict[str, object] = {"data_dir": tmp_path / "data", "lease_s": LEASE_S}
    with replicas(notes, settings) as (first,):
        location = first.http.post(PATH, json=SLOW, headers={"prefer": "wait=1"}).headers["location"]
        ((solver, child),) = eventually(lambda: noted(notes, "began"))
        first.stop()
        assert not alive(solver)
        assert not alive(child)
    started = time.monotonic()
    with replicas(notes, settings) as (second,):
        assert second.http.get(location).json()["state"] == "queued"
        eventually(lambda: len(noted(notes, "began")) == 2)
        timed(started)
        Path(f"{notes}.end").touch()
        assert eventually(lambda: second.http.get(location).json()["state"] == "succeeded")


def test_a_job_that_waits_for_room_is_handed_back_too(tmp_path: Path, notes: Path) -> None:
    settings: dict[str, object] = {"data_dir": tmp_path / "data", "lease_s": LEASE_S, "jobs": 1}
    with replicas(notes, settings) as (first,):
        begun = first.http.post(PATH, json=SLOW, headers={"prefer": "wait=1"}).headers["location"]
        waiting = first.http.post(PATH, json=SLOW, headers={"prefer": "respond-async"}).headers["location"]
        time.sleep(1.5)  # the queue hands it out, and it waits for the first to end
        assert first.http.get(waiting).json()["state"] == "queued"
        assert len(noted(notes, "began")) == 1
        first.stop()
    Path(f"{notes}.end").touch()
    with replicas(notes, settings) as (second,):
        for location in (begun, waiting):
            assert eventually(lambda at=location: second.http.get(at).json()["state"] == "succeeded")


@pytest.mark.long
def test_the_embedded_database_survives_a_power_cut(tmp_path: Path, notes: Path) -> None:
    settings: dict[str, object] = {"data_dir": tmp_path / "data", "lease_s": LEASE_S}
    with replicas(notes, settings) as (first,):
        profile = first.http.post("/v1/profiles", json=random_profile(50)).json()["id"]
        plans = [
            first.http.post(PATH, json={"profile_id": profile, "objective": "kl"}).headers["location"]
            for _ in range(5)
        ]
        location = first.http.post(PATH, json=SLOW, headers={"prefer": "respond-async"}).headers["location"]
        first.kill()
    Path(f"{notes}.end").touch()
    started = time.monotonic()
    with replicas(notes, settings) as (second,):
        assert second.http.get(f"/v1/profiles/{profile}").status_code == 200
        assert all(second.http.get(plan).status_code == 200 for plan in plans)
        assert eventually(lambda: second.http.get(location).json()["state"] == "succeeded")
        timed(started)


@pytest.mark.long
def test_a_key_is_good_for_all_replicas(postgres: Postgres, notes: Path) -> None:
    url = postgres.url()
    with replicas(notes, _shared(url), _shared(url)) as both:

        def ask(number: int) -> httpx2.Response:
            body = {"profile": tiny(), "solver": "napping"}
            return both[number % 2].http.post(PATH, json=body, headers={"idempotency-key": "k"})

        with ThreadPoolExecutor(8) as threads:
            responses = list(threads.map(ask, range(8)))
        assert {response.status_code for response in responses} <= {200, 409}
        contents = {response.content for response in responses if response.status_code == 200}
        assert contents == {ask(0).content} == {ask(1).content}
        assert len(noted(notes, "began")) == 1


@pytest.mark.long
def test_a_key_of_a_killed_replica_is_taken_over(postgres: Postgres, notes: Path) -> None:
    url = postgres.url()
    keys = {"idempotency-key": "k", "prefer": "wait=60"}
    with replicas(notes, _shared(url), _shared(url)) as (first, second):
        with ThreadPoolExecutor(1) as threads:
            lost = threads.submit(first.http.post, PATH, json=SLOW, headers=keys)
            eventually(lambda: noted(notes, "began"))
            problem_of(second.http.post(PATH, json=SLOW, headers=keys), 409)
            first.kill()
            killed = time.monotonic()
            with pytest.raises(httpx2.TransportError):
                lost.result()
        Path(f"{notes}.end").touch()
        answer = eventually(
            lambda: (got := second.http.post(PATH, json=SLOW, headers=keys)).status_code == 200 and got
        )
        timed(killed)
        assert second.http.post(PATH, json=SLOW, headers=keys).content == answer.content


@pytest.mark.long
def test_the_service_waits_for_a_database_that_is_gone(own_postgres: Postgres, notes: Path) -> None:
    with replicas(notes, _shared(own_postgres.url())) as (service,):
        kept = service.http.post(PATH, json={"profile": tiny()}).headers["location"]
        location = service.http.post(PATH, json=SLOW, headers={"prefer": "wait=1"}).headers["location"]
        own_postgres.kill()
        for _ in range(3):
            response = service.http.post(PATH, json={"profile": tiny()})
            body = problem_of(response, 503)
            assert body["type"] == "urn:bitalloc:problem:store-unavailable"
            assert int(response.headers["retry-after"]) > 0
        problem_of(service.http.get(kept), 503)
        assert service.http.get("/healthz").status_code == 200
        Path(f"{notes}.end").touch()  # the job ends while nobody can note it
        eventually(lambda: noted(notes, "ended"))
        own_postgres.start()
        started = time.monotonic()
        assert eventually(lambda: service.http.get(kept).status_code == 200)
        assert eventually(lambda: service.http.post(PATH, json={"profile": tiny()}).status_code == 200)
        timed(started)
        assert eventually(lambda: service.http.get(location).json()["state"] == "succeeded")
        assert len(noted(notes, "began")) == 1


def test_a_full_disk_is_a_problem_and_breaks_nothing(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, workers=1))
    with serving(app) as url, httpx2.Client(base_url=url, timeout=60) as http:
        kept = http.post("/v1/profiles", json=tiny()).json()["id"]
        engine = app.state.resources.store.engine

        @event.listens_for(engine, "begin")
        def _(connection: object) -> None:
            # SQLite's own word for a disk of so many pages: what it answers is what a full disk makes it answer.
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

        response = http.post("/v1/profiles", json=random_profile(3000))
        body = problem_of(response, 507)
        assert body["type"] == "urn:bitalloc:problem:store-full"
        assert http.get(f"/v1/profiles/{kept}").status_code == 200
        assert http.get("/healthz").status_code == 200
        event.remove(engine, "begin", _)
        engine.dispose()  # the limit goes with the connection
        assert http.post("/v1/profiles", json=random_profile(3000)).status_code == 201
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
