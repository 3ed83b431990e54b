"""What one key may store and queue; others do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from api.app import create_app
from api.keys.quotas import stored_bytes
from api.keys.table import create_key
from api.settings import Settings
from api.store import Store, open_store
from api.store.profiles import put_profile
from tests.api.helpers import problem_of, random_profile, serving, tiny
from tests.api.replicas import eventually

PATH = "/v1/allocations"
NOW = {"prefer": "respond-async"}


@contextmanager
def _two_keys(folder: Path, **limits: int) -> Iterator[tuple[httpx2.Client, httpx2.Client]]:
    settings = Settings(data_dir=folder, workers=1, **limits)  # type: ignore[arg-type]
    store = open_store(settings)
    texts = [create_key(store, name)[1] for name in ("one", "other")]
    store.close()
    with (
        serving(create_app(settings)) as url,
        httpx2.Client(base_url=url, headers={"x-api-key": texts[0]}, timeout=60) as one,
        httpx2.Client(base_url=url, headers={"x-api-key": texts[1]}, timeout=60) as other,
    ):
        yield one, other


def test_a_key_stores_no_more_than_it_may(tmp_path: Path) -> None:
    with _two_keys(tmp_path, max_stored_bytes_per_key=60_000) as (one, other):
        kept = []
        while (
            answer := one.post("/v1/profiles", json=random_profile(200, seed=len(kept)))
        ).status_code == 201:
            kept.append(answer.headers["location"])
            assert len(kept) < 100
        seen = problem_of(answer, 507)
        assert seen["type"].endswith("quota-used-up")
        assert "of 60000 bytes; delete profiles that are not needed" in seen["detail"]
        problem_of(one.post(PATH, json={"profile": tiny()}), 507)
        problem_of(one.post(PATH, json={"profile": tiny()}, headers=NOW), 507)
        assert one.get(kept[0]).status_code == 200
        assert other.post("/v1/profiles", json=tiny()).status_code == 201
        assert other.post(PATH, json={"profile": tiny()}).status_code == 200
        for location in kept:
            assert one.delete(location).status_code == 204
        assert one.post(PATH, json={"profile": tiny()}).status_code == 200


def test_a_key_has_no_more_jobs_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITALLOC_TEST_NOTES", str(tmp_path / "notes"))
    slow = {"profile": tiny(), "solver": "slow"}
    with _two_keys(tmp_path / "data", max_jobs_per_key=3) as (one, other):
        jobs = [one.post(PATH, json=slow, headers=NOW).headers["location"] for _ in range(3)]
        for prefer in (NOW, {"prefer": "wait=1"}):
            refused = one.post(PATH, json=slow, headers=prefer)
            assert problem_of(refused, 429)["type"].endswith("too-many-jobs")
            assert int(refused.headers["retry-after"]) > 0
        patient = {"prefer": "wait=60"}  # the worker of the request that was refused is started anew
        assert one.post(PATH, json={"profile": tiny()}, headers=patient).status_code == 200
        assert other.post(PATH, json=slow, headers=NOW).status_code == 202
        assert one.delete(jobs[-1]).status_code == 200
        assert one.post(PATH, json=slow, headers=NOW).status_code == 202
        Path(tmp_path / "notes.end").touch()
        for location in jobs[:-1]:
            assert eventually(lambda at=location: one.get(at).json()["state"] == "succeeded")


def test_more_requests_than_may_wait_are_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITALLOC_TEST_NOTES", str(tmp_path / "notes"))

    with (
        _two_keys(tmp_path / "data", max_waiting_per_key=2) as (one, other),
        ThreadPoolExecutor(6) as threads,
    ):
        body = {"profile": tiny(), "solver": "napping"}
        answers = list(threads.map(lambda _: one.post(PATH, json=body), range(6)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) in {3, 4}  # one may have a worker already
        for answer in refused:
            assert problem_of(answer, 429)["type"].endswith("too-many-waiting")
            assert int(answer.headers["retry-after"]) > 0
        assert other.post(PATH, json={"profile": tiny()}).status_code == 200


def test_what_is_stored_is_measured_packed_and_by_owner(store: Store) -> None:
    summary = {"model": "m", "layers": 1, "formats": ["f"], "costs": [], "resources": []}
    put_profile(store, "me", "a" * 64, summary, 3_000, b"packed")
    put_profile(store, "you", "a" * 64, summary, 3_000, b"packed as well")
    assert (stored_bytes(store, "me"), stored_bytes(store, "you"), stored_bytes(store, "they")) == (6, 14, 0)
