"""Databases that are locked, full, read-only or damaged: each has a clear answer, and readers go on where they can."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import event

from allocator import InvalidInputError
from api.app import create_app
from api.errors import StoreDamagedError, StoreUnavailableError
from api.settings import Settings
from api.store import open_store
from tests.api.helpers import problem_of, random_profile, serving, tiny
from tests.api.replicas import eventually

PATH = "/v1/allocations"
NOW = {"prefer": "respond-async"}


@contextmanager
def _service(folder: Path) -> Iterator[httpx2.Client]:
    limits = httpx2.Limits(max_connections=200)
    with (
        serving(create_app(Settings(data_dir=folder, workers=1))) as url,
        httpx2.Client(base_url=url, timeout=120, limits=limits) as http,
    ):
        eventually(lambda: http.get("/readyz").status_code == 200)
        yield http


def test_a_foreign_lock_stops_no_reader_and_is_told(tmp_path: Path) -> None:
    with _service(tmp_path) as http, ThreadPoolExecutor(64) as threads:
        kept = http.post("/v1/profiles", json=tiny()).headers["location"]
        foreign = sqlite3.connect(tmp_path / "bitalloc.db", isolation_level=None, check_same_thread=False)
        foreign.execute("BEGIN IMMEDIATE")
        headers = {"idempotency-key": "k"}
        writers = [
            threads.submit(http.post, "/v1/profiles", json=tiny(), headers=headers | {"x": str(number)})
            for number in range(60)
        ]
        time.sleep(0.5)
        began = time.monotonic()
        for _ in range(10):
            assert http.get(kept).status_code == 200
        assert time.monotonic() - began < 3  # far less than a writer waits
        ready = http.get("/readyz")
        assert problem_of(ready, 503)["detail"] == "the database is locked by another program"
        for writer in writers:
            problem_of(writer.result(), 503)
        foreign.execute("ROLLBACK")
        foreign.close()
        eventually(lambda: http.get("/readyz").status_code == 200)  # the queue is looked at twice a second
        assert http.post("/v1/profiles", json=tiny(), headers=headers).status_code == 200


def test_a_database_that_another_program_keeps_is_told_at_the_start(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "bitalloc.db", isolation_level=None)
    foreign.execute("PRAGMA locking_mode = EXCLUSIVE")
    foreign.execute("PRAGMA journal_mode = WAL")
    foreign.execute("CREATE TABLE other (x)")
    with pytest.raises(StoreUnavailableError, match="the database is locked by another program"):
        open_store(Settings(data_dir=tmp_path))
    foreign.close()
    open_store(Settings(data_dir=tmp_path)).close()


def test_a_full_disk_takes_nothing_in_and_is_not_ready(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, workers=1))
    with serving(app) as url, httpx2.Client(base_url=url, timeout=60) as http:
        eventually(lambda: http.get("/readyz").status_code == 200)
        engine = app.state.resources.store.engine

        @event.listens_for(engine, "begin")
        def _(connection: object) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

        large = {"profile": random_profile(3000), "objective": "kl"}
        refused = http.post(PATH, json=large, headers=NOW)
        assert problem_of(refused, 507)["type"].endswith("store-full")
        assert problem_of(http.get("/readyz"), 507)["type"].endswith("store-full")
        assert http.get("/v1/jobs").json()["items"] == []


def _mounted(folder: Path, *options: str) -> None:
    if subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")


def test_on_a_full_disk_something_can_be_deleted(tmp_path: Path) -> None:
    _mounted(tmp_path, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    try:
        with _service(tmp_path) as http:
            kept = [
                http.post("/v1/profiles", json=random_profile(300, seed=seed)).headers["location"]
                for seed in range(3)
            ]
            job = http.post(PATH, json={"profile": tiny()}, headers=NOW)
            filler = tmp_path / "somebody's"
            _fill(filler)
            refused = http.post("/v1/profiles", json=random_profile(3000))
            assert problem_of(refused, 507)["type"].endswith("store-full")
            assert problem_of(http.get("/readyz"), 507)["type"].endswith("store-full")
            problem_of(http.post(PATH, json=_large(), headers=NOW), 507)
            assert job.status_code == 202
            for location in kept:
                assert http.delete(location).status_code == 204
                problem_of(http.get(location), 404)
            filler.unlink()
            assert http.get("/readyz").status_code == 200
            assert http.post("/v1/profiles", json=random_profile(300)).status_code == 201
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def _large() -> dict[str, object]:
    return {"profile": random_profile(3000), "objective": "kl"}


def test_a_folder_that_becomes_read_only_is_told(tmp_path: Path) -> None:
    _mounted(tmp_path, "-t", "tmpfs", "-o", "size=8m", "tmpfs")
    try:
        store = open_store(Settings(data_dir=tmp_path))
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with pytest.raises(
            InvalidInputError, match=r"BITALLOC_DATA_DIR: the data folder .* cannot be written by this user"
        ):
            open_store(Settings(data_dir=tmp_path))
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_database_that_takes_no_writes_any_more_still_answers_readers(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, workers=1))
    with serving(app) as url, httpx2.Client(base_url=url, timeout=60) as http:
        eventually(lambda: http.get("/readyz").status_code == 200)
        kept = http.post("/v1/profiles", json=tiny()).headers["location"]
        engine = app.state.resources.store.engine

        @event.listens_for(engine, "begin")
        def _(connection: object) -> None:
            connection.exec_driver_sql("PRAGMA query_only = ON")  # type: ignore[attr-defined]

        refused = http.post("/v1/profiles", json=random_profile(10))
        assert problem_of(refused, 503)["detail"] == "the database takes no writes: it is read-only"
        problem_of(http.get("/readyz"), 503)
        assert http.get(kept).status_code == 200


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_this_user_may_not_write_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(
        InvalidInputError, match=r"BITALLOC_DATA_DIR: the data folder .* cannot be written by this user"
    ):
        open_store(Settings(data_dir=tmp_path))
    tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match=r"BITALLOC_DATA_DIR: the data folder cannot be made"):
        open_store(Settings(data_dir=tmp_path / "file"))


def test_a_folder_in_the_place_of_the_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "bitalloc.db").mkdir()
    with pytest.raises(
        InvalidInputError, match=r"the database .* cannot be opened for writing: Is a directory"
    ):
        open_store(Settings(data_dir=tmp_path))


@pytest.mark.parametrize("damage", ["another file", "a hole in the schema"])
def test_a_damaged_database_is_named_at_the_start_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bitalloc.db"
    open_store(Settings(data_dir=tmp_path)).close()
    content = path.read_bytes()
    path.write_bytes(
        b"not a database at all" * 1000
        if damage == "another file"
        else content[:100] + bytes(4096) + content[4196:]
    )
    for beside in ("bitalloc.db-wal", "bitalloc.db-shm"):
        (tmp_path / beside).unlink(missing_ok=True)
    with pytest.raises(
        StoreDamagedError, match=r"bitalloc\.db is damaged; move it away to begin anew, or put a copy"
    ):
        open_store(Settings(data_dir=tmp_path))


def test_damage_under_a_running_service_is_a_problem_and_not_ready(tmp_path: Path) -> None:
    with _service(tmp_path) as http:
        kept = http.post("/v1/profiles", json=random_profile(3000)).headers["location"]
        with sqlite3.connect(tmp_path / "bitalloc.db") as own:
            own.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = tmp_path / "bitalloc.db"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\xa5" * (size - 100))
        seen = problem_of(http.get(kept), 500)
        assert seen["type"] == "urn:bitalloc:problem:store-damaged"
        problem_of(http.get("/readyz"), 500)
        assert http.get("/healthz").status_code == 200


def test_the_files_are_their_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    before = os.umask(0o022)
    try:
        store = open_store(Settings(data_dir=folder))
        store.check()
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert set(files) >= {"bitalloc.db", "bitalloc.db-wal", "bitalloc.db-shm", "reserve"}
        assert set(files.values()) == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        store.close()
    finally:
        os.umask(before)


def test_what_an_earlier_release_left_open_is_closed_and_a_shared_folder_is_left_alone(
    tmp_path: Path,
) -> None:
    for name, more, mode in (("own", None, 0o700), ("shared", "letters", 0o755)):
        folder = tmp_path / name
        open_store(Settings(data_dir=folder)).close()
        folder.chmod(0o755)
        (folder / "bitalloc.db").chmod(0o644)
        if more is not None:
            (folder / more).touch()
        open_store(Settings(data_dir=folder)).close()
        assert stat.S_IMODE(folder.stat().st_mode) == mode
        assert stat.S_IMODE((folder / "bitalloc.db").stat().st_mode) == 0o600
