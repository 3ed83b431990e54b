"""Long work, its events, its end; misbehaving solvers. Real processes throughout."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from allocator import solve
from bitalloc.client import Client, JobEvent, ServiceError
from bitalloc.client.retry_policy import RetryPolicy
from tests.api.helpers import comparable, problem_of, tiny
from tests.api.replicas import Replica, alive, eventually, noted, replicas

PATH = "/v1/allocations"
SLOW = {"profile": tiny(), "solver": "slow"}
BUDGETED = {"profile": tiny(), "budgets": {"weight_bytes": "7 KiB"}}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes") / "notes"


@pytest.fixture(scope="module")
def replica(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A service that lets a solve overrun by two seconds, and ends streams after one."""
    settings: dict[str, object] = {
        "data_dir": tmp_path_factory.mktemp("data"),
        "max_time_limit_s": 60,
        "overrun_s": 2,
        "stream_s": 1,
        "jobs": 2,
    }
    with replicas(notes, settings) as (one,):
        yield one


@pytest.fixture
def gate(notes: Path) -> Iterator[Path]:
    """Lets slow solvers end, once it exists."""
    path = Path(f"{notes}.end")
    notes.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    yield path
    path.touch()


def _job(replica: Replica, prefer: str = "wait=1", **fields: object) -> str:
    response = replica.http.post(PATH, json=SLOW | fields, headers={"prefer": prefer})
    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == prefer
    assert response.headers["retry-after"] == "1"
    location: str = response.headers["location"]
    assert location == f"/v1/jobs/{response.json()['id']}"
    return location


def test_a_solve_that_outlasts_its_request_becomes_a_job_and_goes_on(
    replica: Replica, gate: Path, notes: Path
) -> None:
    location = _job(replica)
    job = eventually(lambda: (now := replica.http.get(location).json())["progress"] and now)
    assert job["state"] == "running"
    assert job["ended_at"] is None
    assert job["progress"]["bound"] < job["progress"]["objective"]
    gate.touch()
    job = eventually(lambda: (now := replica.http.get(location).json())["ended_at"] and now)
    assert job["state"] == "succeeded"
    assert len(noted(notes, "began")) == 1  # it was not begun again
    (path,) = job["allocations"]
    answer = replica.http.get(path)
    assert comparable(answer.content)["assignment"] == solve(tiny()).assignment
    assert problem_of(replica.http.delete(location), 409)["type"].endswith("job-has-ended")


def test_a_job_that_was_asked_for_is_queued_and_done(replica: Replica, gate: Path) -> None:
    gate.touch()
    location = _job(replica, "respond-async")
    assert eventually(lambda: replica.http.get(location).json()["state"] == "succeeded")
    assert location.rpartition("/")[2] in {job["id"] for job in replica.http.get("/v1/jobs").json()["items"]}


def test_events_tell_of_better_bounds_across_reconnections(replica: Replica, gate: Path) -> None:
    location = _job(replica)
    events: list[JobEvent] = []
    with Client(replica.url) as client:
        for event in client.events(location.rpartition("/")[2]):
            events.append(event)
            if len(events) == 40:  # two streams' worth at least
                gate.touch()
    assert [event.number for event in events[:-1]] == list(range(1, len(events)))
    bounds = [event.progress.bound for event in events[:-1] if event.progress is not None]
    assert len(bounds) == len(events) - 1
    assert all(bound is not None for bound in bounds)
    assert bounds == sorted(bounds)  # type: ignore[type-var]
    assert events[-1].ended is not None
    assert events[-1].ended.state == "succeeded"


def test_a_job_that_ends_at_once_has_events_too(replica: Replica) -> None:
    job = replica.http.post(PATH, json=BUDGETED, headers={"prefer": "respond-async"}).json()
    with Client(replica.url) as client:
        *events, end = client.events(job["id"])
    assert [event.progress is not None for event in events] == [True] * len(events)
    assert events
    assert end.ended is not None


def test_a_stream_lives_for_a_while_and_can_be_resumed(replica: Replica, gate: Path) -> None:
    location = _job(replica)
    with replica.http.stream("GET", f"{location}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    assert "event: reconnect" in lines
    last = [line for line in lines if line.startswith("id: ")][-1].removeprefix("id: ")
    gate.touch()
    with replica.http.stream("GET", f"{location}/events", headers={"last-event-id": last}) as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("id: "))
    assert int(first.removeprefix("id: ")) >= int(last)


def test_cancelling_kills_the_solver_and_what_it_started(replica: Replica, gate: Path, notes: Path) -> None:
    del gate
    location = _job(replica)
    ((solver, child),) = eventually(lambda: noted(notes, "began"))  # its worker may be starting
    assert alive(solver)
    assert alive(child)
    response = replica.http.delete(location)
    assert response.status_code == 200, response.text
    assert response.json()["state"] == "cancelled"
    assert not alive(solver)
    assert not alive(child)
    problem_of(replica.http.delete(location), 409)
    assert replica.http.post(PATH, json={"profile": tiny()}).status_code == 200


def test_a_cancelled_job_is_an_error_for_the_client_that_waits(replica: Replica, gate: Path) -> None:
    del gate
    with Client(replica.url) as client:
        job = client.submit(tiny(), solver="slow")
        eventually(lambda: client.job(job.id).state == "running")
        assert client.cancel(job.id).state == "cancelled"
        with pytest.raises(ServiceError, match="answered 409: the job has ended: it is cancelled"):
            client.cancel(job.id)


def test_jobs_beyond_the_capacity_wait(gate: Path, notes: Path, tmp_path: Path) -> None:
    # A service of its own: a job that another test cancelled may take capacity for a moment longer.
    with replicas(notes, {"data_dir": tmp_path, "max_time_limit_s": 60, "jobs": 2}) as (replica,):
        with ThreadPoolExecutor(3) as threads:
            locations = list(threads.map(lambda _: _job(replica), range(3)))

        def states() -> list[str]:
            return sorted(replica.http.get(location).json()["state"] for location in locations)

        assert states() == ["queued", "running", "running"]
        time.sleep(1.5)  # the queue is looked at again
        assert states() == ["queued", "running", "running"]
        # Jobs take nothing from those who come next.
        assert replica.http.post(PATH, json={"profile": tiny()}).status_code == 200
        gate.touch()
        eventually(lambda: set(states()) == {"succeeded"})


def test_a_job_that_fails_says_why(replica: Replica) -> None:
    wrong = {"solver": "exact", "budgets": {"weight": 1}}
    for fields, kind, status in (({"solver": "dying"}, "solver-crashed", 500), (wrong, "invalid-input", 422)):
        location = _job(replica, "respond-async", **fields)
        job = eventually(lambda at=location: (now := replica.http.get(at).json())["ended_at"] and now)
        assert job["state"] == "failed"
        assert job["problem"]["status"] == status
        assert job["problem"]["type"].endswith(kind)


def test_what_is_plainly_wrong_does_not_become_a_job(replica: Replica) -> None:
    now = {"prefer": "respond-async"}
    for wrong, status in (
        ({"profile": tiny(), "solver": "none"}, 422),
        ({"profile": tiny(), "gap": 3}, 422),
        ({"profile_id": "0" * 64}, 404),
    ):
        problem_of(replica.http.post(PATH, json=wrong, headers=now), status)


def test_an_unknown_job_is_a_problem(replica: Replica) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        problem_of(replica.http.request(method, f"/v1/jobs/{'0' * 32}{path}"), 404)


@pytest.mark.parametrize(
    ("solver", "kind"), [("dying", "solver-crashed"), ("hungry", "solver-out-of-memory")]
)
def test_a_solver_that_breaks_its_worker_is_a_clear_failure_and_the_service_goes_on(
    replica: Replica, solver: str, kind: str
) -> None:
    for _ in range(2):
        body = problem_of(replica.http.post(PATH, json={"profile": tiny(), "solver": solver}), 500)
        assert body["type"].endswith(kind)
        assert replica.http.post(PATH, json={"profile": tiny()}).json()["status"] == "optimal"


def test_a_solver_that_ignores_its_limit_is_killed_with_its_children(
    gate: Path, notes: Path, tmp_path: Path
) -> None:
    del gate
    with replicas(notes, {"data_dir": tmp_path, "max_time_limit_s": 0.5, "overrun_s": 0.5}) as (one,):
        body = problem_of(one.http.post(PATH, json=SLOW, headers={"prefer": "wait=30"}), 500)
        assert body["type"].endswith("solver-overran")
        ((solver, child),) = eventually(lambda: noted(notes, "began"))  # its worker may be starting
        assert not alive(solver)
        assert not alive(child)
        assert one.http.post(PATH, json={"profile": tiny()}).status_code == 200


def test_the_same_key_gets_the_same_answer_and_the_work_is_done_once(
    replica: Replica, gate: Path, notes: Path
) -> None:
    del gate
    start = threading.Barrier(6)

    def ask(_: int) -> httpx2.Response:
        start.wait()
        body = {"profile": tiny(), "solver": "napping"}
        return replica.http.post(PATH, json=body, headers={"idempotency-key": "one"})

    with ThreadPoolExecutor(6) as threads:
        responses = list(threads.map(ask, range(6)))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200] + [409] * 5
    (first,) = [response for response in responses if response.status_code == 200]
    for response in responses:
        if response is not first:
            assert response.headers["retry-after"] == "1"
            assert problem_of(response, 409)["type"].endswith("idempotency-key-in-flight")
    again = ask_again = replica.http.post(
        PATH, json={"profile": tiny(), "solver": "napping"}, headers={"idempotency-key": "one"}
    )
    assert ask_again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert len(noted(notes, "began")) == 1


def test_a_client_that_retries_waits_for_the_first_answer(replica: Replica, gate: Path, notes: Path) -> None:
    del gate
    keys = {"idempotency-key": "two"}
    body = {"profile": tiny(), "solver": "napping"}
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(replica.http.post, PATH, json=body, headers=keys)
        eventually(lambda: noted(notes, "began"))
        problem_of(replica.http.post(PATH, json=body, headers=keys), 409)
        assert first.result().status_code == 200


def test_another_request_with_the_same_key_is_refused(replica: Replica) -> None:
    keys = {"idempotency-key": "three"}
    assert replica.http.post(PATH, json={"profile": tiny()}, headers=keys).status_code == 200
    other = {"profile": tiny(), "budgets": {"effective_bits": 6.5}}
    body = problem_of(replica.http.post(PATH, json=other, headers=keys), 422)
    assert body["type"].endswith("idempotency-key-reused")


def test_a_request_that_failed_can_be_sent_again_with_its_key(replica: Replica) -> None:
    keys = {"idempotency-key": "four"}
    for _ in range(2):
        problem_of(replica.http.post(PATH, json={"profile": tiny(), "gap": 7}, headers=keys), 422)
    problem_of(replica.http.post(PATH, json={"profile": tiny(), "solver": "dying"}, headers=keys), 500)
    assert replica.http.post(PATH, json={"profile": tiny()}, headers=keys).status_code == 200


def test_a_job_is_accepted_once_for_each_key(replica: Replica, gate: Path) -> None:
    headers = {"idempotency-key": "five", "prefer": "respond-async"}
    first = replica.http.post(PATH, json=SLOW, headers=headers)
    again = replica.http.post(PATH, json=SLOW, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert json.loads(again.content)["id"] == json.loads(first.content)["id"]
    gate.touch()
    assert eventually(lambda: replica.http.get(first.headers["location"]).json()["state"] == "succeeded")


def test_retries_end() -> None:
    policy = RetryPolicy(attempts=3, first_pause_s=1.0, longest_pause_s=1.5)
    busy = httpx2.Response(503)
    assert [policy.pause_s(attempt, busy) for attempt in (1, 2, 3)] == [1.0, 1.5, None]
    asked = httpx2.Response(429, headers={"retry-after": "9"})
    assert policy.pause_s(1, asked) == 1.5
    assert policy.pause_s(1, httpx2.ConnectError("refused")) == 1.0
    assert policy.pause_s(1, httpx2.RemoteProtocolError("Server disconnected")) == 1.0
    assert policy.pause_s(1, httpx2.RemoteProtocolError("illegal status line")) is None
    assert policy.pause_s(1, httpx2.ReadTimeout("slow")) is None
    assert policy.pause_s(1, httpx2.Response(409, content=b"job-has-ended")) is None
